"""The feature gates known to a Kubernetes version, and which of them are locked (CFG-08, CFG-08b).

The names, those of Kubernetes 1.30 to 1.37, are in a file.  `engine.config` implements their effects; most gates have
none in a proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from engine.config import NEWEST

SINCE_1_36 = "gates-since-1.36.txt"
"""Names added in 1.36."""
DROPPED = {
    "KubeProxyDrainingTerminatingNodes": (1, 33),
    "LoadBalancerIPMode": (1, 35),
    "TopologyAwareHints": (1, 36),
    "ServiceTrafficDistribution": (1, 36),
    "NFTablesProxyMode": (1, 38),
    "MultiCIDRServiceAllocator": (1, 38),
    "PreferSameTrafficDistribution": (1, 38),
}
"""The first version without the gate."""
LOCKED = {
    "LoadBalancerIPMode": (1, 32),
    "NFTablesProxyMode": (1, 33),
    "TopologyAwareHints": (1, 33),
    "ServiceTrafficDistribution": (1, 33),
    "MultiCIDRServiceAllocator": (1, 34),
    "PreferSameTrafficDistribution": (1, 35),
}
"""The first version in which the gate cannot be disabled."""


@cache
def known_gates(version: tuple[int, int] = NEWEST) -> frozenset[str]:
    """The names of all gates in a version."""
    names = _names("gates.txt") | (_names(SINCE_1_36) if version >= (1, 36) else frozenset())
    return names - {name for name, since in DROPPED.items() if version >= since}


def _names(file: str) -> frozenset[str]:
    return frozenset((files(__package__) / file).read_text().split())


def unknown_gates(names: Iterable[str], version: tuple[int, int] = NEWEST) -> list[str]:
    """The names that a version does not know, sorted."""
    return sorted(set(names) - known_gates(version))


def complaint(gates: Mapping[str, bool], version: tuple[int, int] = NEWEST) -> str:
    """The errors in these gates for a version, "" if there are none."""
    unknown = [f"unrecognized feature gate: {name}" for name in unknown_gates(gates, version)]
    known = sorted(set(gates) & known_gates(version))
    stuck = [name for name in known if not gates[name] and name in LOCKED and version >= LOCKED[name]]
    return ", ".join(
        [*unknown, *(f"cannot set feature gate {name} to false, feature is locked to true" for name in stuck)]
    )
