"""The requested content of a synthetic recording, and its valid ranges."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from harness.log.events import JsonObject

MAX_SERVICES = 500_000
MAX_ENDPOINTS_PER_SERVICE = 1_000
MAX_NODES = 32_000
MAX_ZONES = 26
POD_SPACE = 1 << 23
"""Addresses in 10.128.0.0/9, which contains the podCIDRs of all nodes."""

LONG_TAIL_MEAN = 6
"""Roughly the mean of `shapes.long_tail`, rounded up, as it determines the size of podCIDRs."""


@dataclass(frozen=True)
class SynthOptions:
    """Shape of a recording; `endpoints_per_service` None draws from a long tail (0 to 250, median 3-5).

    `churn` counts the events after the initial list.  `rich` makes rare features common: node ports and load
    balancers, UDP, source ranges, hints, draining endpoints; with dual stack, only a third of the Services has it.
    Raises ValueError if a value is out of range.
    """

    services: int = 10_000
    endpoints_per_service: int | None = None
    churn: int = 5_000
    nodes: int = 500
    zones: int = 3
    dual_stack: bool = False
    seed: int = 1
    rich: bool = False

    def __post_init__(self) -> None:
        """Check every range, so that every Options value can be generated."""
        self._check("services", self.services, 1, MAX_SERVICES)
        if self.endpoints_per_service is not None:
            self._check("endpoints_per_service", self.endpoints_per_service, 0, MAX_ENDPOINTS_PER_SERVICE)
        self._check("churn", self.churn, 0, 10_000_000)
        self._check("nodes", self.nodes, 1, MAX_NODES)
        self._check("zones", self.zones, 1, MAX_ZONES)
        if self.pods_per_node * self.nodes > POD_SPACE:
            raise ValueError("that many endpoints on that many nodes do not fit in 10.128.0.0/9")

    @staticmethod
    def _check(name: str, value: int, low: int, high: int) -> None:
        """Raise ValueError unless low <= value <= high."""
        if not low <= value <= high:
            raise ValueError(f"{name} must be between {low} and {high}, not {value}")

    @property
    def pods_per_node(self) -> int:
        """Size of each node's podCIDR: a power of two, 256 at least.

        Pod addresses are never reused, so there is room for the endpoints that churn adds (at most one
        Service per four events), with one node less, and 50 % more for an uneven distribution.
        """
        mean = LONG_TAIL_MEAN if self.endpoints_per_service is None else self.endpoints_per_service
        wanted = (self.services + self.churn // 4 + 8) * mean + self.churn * 2 + 500
        each = max(256, wanted * 3 // 2 // max(1, self.nodes - 1) + 4)
        return 1 << (each - 1).bit_length()

    def as_dict(self) -> JsonObject:
        """The options for the header, without the seed, which the header names on its own, and `rich` unless set."""
        left_out = {"seed"} if self.rich else {"seed", "rich"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}
