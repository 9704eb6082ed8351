"""Rows of a benchmark: cluster size, kind of changes, and measured proxy; profiles are sets of rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

CHURNS = {
    "steady": "one endpoint at a time becomes not ready, or ready again",
    "rolling-update": "the endpoints of a Service are replaced one by one: drained, added, removed",
    "flap-storm": "an endpoint of every twentieth Service fails at once, and recovers at once",
    "mass-delete": "a tenth of the Services is deleted at once",
    "cold-start": "only the first sync, into an empty kernel",
    "restart": "only the first sync of a new process, over the rules of its predecessor",
}
SYNC_ONLY = ("cold-start", "restart")
ENGINE, DAEMON = "engine", "proxy-engine"
"""Our proxies: the engine in a process of the harness, and the daemon measured from outside."""
NAMED = {(44_125, 1): "kubernetes#139513", (5_006, 50): "kubernetes#135639"}
"""Clusters that users of kube-proxy reported as slow."""
CHANGES = {"steady": 160, "rolling-update": 60, "flap-storm": 6, "mass-delete": 5, "cold-start": 0, "restart": 0}
"""Batches of changes after each start; for a proxy measured from outside the same recording.

Four starts with 160 pairs each are enough for a gate on p99.
"""
LARGE, HUGE = 20_000, 200_000
"""Number of endpoints above which fewer starts are measured."""


@dataclass(frozen=True)
class BenchRow:
    """One cluster and one kind of change, in one mode, by one proxy."""

    mode: str
    services: int
    endpoints: int
    churn: str
    proxy: str = ENGINE

    @property
    def id(self) -> str:
        """`nftables-1000x10-steady-engine`."""
        return f"{self.mode}-{self.services}x{self.endpoints}-{self.churn}-{self.proxy}"

    @property
    def cluster(self) -> str:
        """Name of its recording, which several rows may share."""
        return f"{self.services}x{self.endpoints}-{self.churn}"

    @property
    def named(self) -> str | None:
        """The public report of this cluster."""
        return NAMED.get((self.services, self.endpoints))

    @property
    def inside(self) -> bool:
        """Whether the engine is measured in a process of the harness."""
        return self.proxy == ENGINE

    @property
    def starts(self) -> tuple[int, int]:
        """Number of starts of the proxy, and of first syncs per start."""
        if not self.inside:
            return 2, 1
        size = self.services * self.endpoints
        firsts = 1 if size > LARGE else 3 if self.churn in SYNC_ONLY else 2
        return (2 if size > HUGE else 4), 2 if size > LARGE and size <= HUGE else firsts

    @property
    def weight(self) -> int:
        """Estimated seconds, for the remaining time."""
        size = self.services * (2 + self.endpoints) / 12_000
        starts, firsts = self.starts
        seconds = starts * (0.8 + 0.35 * size * (firsts + 1))
        slower = {"iptables": 3.0, "ipvs": 1.5}.get(self.mode, 1.0)
        return max(1, round(seconds * slower if self.inside else 6 + starts * size * 2 * slower))


def _of(
    modes: Iterable[str], sizes: Iterable[tuple[int, int]], churns: Iterable[str], proxy: str
) -> Iterator[BenchRow]:
    for mode in modes:
        for services, endpoints in sizes:
            for churn in churns:
                yield BenchRow(mode, services, endpoints, churn, proxy)


EVERY = tuple(CHURNS)
Part = tuple[tuple[str, ...], tuple[tuple[int, int], ...], tuple[str, ...], str]
QUICK: tuple[Part, ...] = (
    (("nftables", "iptables", "ipvs"), ((1_000, 10),), ("steady",), ENGINE),
    (("nftables",), ((1_000, 10),), EVERY, ENGINE),
    (("nftables",), ((3_000, 10), (10_000, 10)), ("steady",), ENGINE),
    (("iptables",), ((300, 10),), ("steady",), ENGINE),
    (("nftables",), ((300, 10),), ("steady",), DAEMON),
)
NIGHTLY: tuple[Part, ...] = (
    (("nftables", "iptables", "ipvs"), ((1_000, 10),), EVERY, ENGINE),
    (("nftables",), ((3_000, 10), (10_000, 1), (30_000, 10), *NAMED), ("steady",), ENGINE),
    (("nftables",), ((10_000, 10),), EVERY, ENGINE),
    (("iptables",), ((3_000, 10), (10_000, 10)), ("steady",), ENGINE),
    (("nftables", "iptables"), ((1_000, 10),), ("steady", "flap-storm", "restart"), DAEMON),
    (("nftables",), ((3_000, 10), (10_000, 10)), ("steady",), DAEMON),
)
FULL: tuple[Part, ...] = (
    *NIGHTLY,
    (("nftables",), ((100_000, 10), (100_000, 1)), EVERY, ENGINE),
    (("nftables", "iptables", "ipvs"), ((1_000, 1), (3_000, 10), (10_000, 10), *NAMED), EVERY, ENGINE),
    (("nftables", "iptables", "ipvs"), ((1_000, 10), (10_000, 10)), EVERY, DAEMON),
    (("nftables",), ((30_000, 10), *NAMED), ("steady",), DAEMON),
)
PROFILES = {"quick": QUICK, "nightly": NIGHTLY, "full": FULL}
ABOUT = {"quick": "under 5 minutes on 2 cores", "nightly": "under an hour", "full": "many hours"}


def rows_of(profile: str, external: Iterable[str] = (), modes: Iterable[str] = ()) -> list[BenchRow]:
    """The rows of a profile, each once; proxies named in `external` get the rows of our daemon."""
    found: dict[BenchRow, None] = {}
    wanted, names = set(modes), list(external)
    for part_modes, sizes, churns, proxy in PROFILES[profile]:
        for each in (DAEMON, *names) if proxy == DAEMON else (proxy,):
            found |= dict.fromkeys(_of(part_modes, sizes, churns, each))
    return [row for row in found if not wanted or row.mode in wanted]


def chosen(rows: Iterable[BenchRow], patterns: Iterable[str]) -> list[BenchRow]:
    """Rows whose id matches one of the patterns (`nftables-*-steady-*`); all without patterns."""
    wanted = list(patterns)
    return [row for row in rows if not wanted or any(fnmatchcase(row.id, pattern) for pattern in wanted)]


def parsed(text: str) -> BenchRow:
    """Parse a row's id; ValueError with the reason."""
    form = "MODE-SERVICESxENDPOINTS-CHURN-PROXY, such as nftables-1000x10-steady-engine"
    mode, _, rest = text.partition("-")
    size, _, rest = rest.partition("-")
    churn = next((each for each in CHURNS if rest.startswith(f"{each}-")), None)
    services, _, endpoints = size.partition("x")
    if churn is None or not (services.isdecimal() and endpoints.isdecimal()):
        raise ValueError(f"{text}: {form}")
    return BenchRow(mode, int(services), int(endpoints), churn, rest.removeprefix(f"{churn}-"))
