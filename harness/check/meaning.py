"""From the elements of the nftables maps to behaviour: the rules of the skeleton, read by hand.

A new connection is DNATed by the first map that has its destination; what was not DNATed is
dropped or rejected by the sets.  Anything inconsistent raises ValueError.
"""

from __future__ import annotations

import struct

from harness.behaviour import Behaviour, Destination

Tables = dict[str, dict[bytes, bytes]]
_COUNT_SHIFT = 20
_ENDPOINT_MAPS = ("tcp-endpoints", "udp-endpoints", "sctp-endpoints")


def meaning(family: int, tables: Tables) -> Behaviour:
    """The behaviour that these elements give; ValueError for gaps and leaks among endpoints."""
    pools = _pools(family, {k: d for name in _ENDPOINT_MAPS for k, d in tables[name].items()})
    used: set[int] = set()

    def resolve(pick: bytes | None):
        if pick is None:
            return None
        value = struct.unpack("=I", pick)[0]
        number, count = value & ((1 << _COUNT_SHIFT) - 1), value >> _COUNT_SHIFT
        pool = pools.get(number, {})
        if set(pool) != set(range(count)):
            raise ValueError(f"endpoint set {number} should have {count} slots, has {sorted(pool)[:9]}")
        used.add(number)
        return ("dnat", frozenset(pool.values()))

    size = 4 if family == 4 else 16
    destinations = _destinations(size, tables, resolve)
    nodeports = _nodeports(tables, resolve)
    leaked = pools.keys() - used
    if leaked:
        raise ValueError(f"endpoint sets that nothing leads to: {sorted(leaked)[:9]}")
    return Behaviour(destinations, nodeports, frozenset(tables["cluster-ips"]), frozenset(tables["nodeport-ips"]))


def _pools(family: int, endpoints: dict[bytes, bytes]) -> dict[int, dict[int, tuple[bytes, int]]]:
    size = 4 if family == 4 else 16
    pools: dict[int, dict[int, tuple[bytes, int]]] = {}
    unpack = struct.Struct("=II").unpack
    for key, data in endpoints.items():
        number, slot = unpack(key)
        pools.setdefault(number, {})[slot] = (data[:size], data[size] << 8 | data[size + 1])
    return pools


def _outcomes(key: bytes, tables: Tables, names: tuple[str, ...], resolve, unmatched):
    """(pod, node, external) for one key; `names`: everyone's maps, short circuit, local, drop, reject."""
    *everyone, short, local, drop, reject = names
    for name in everyone:
        if key in tables[name]:
            return (resolve(tables[name][key]),) * 3
    fallback = ("drop",) if key in tables[drop] else ("reject",) if key in tables[reject] else unmatched
    outside = resolve(tables[local].get(key)) or fallback
    inside = resolve(tables[short].get(key)) or outside
    return inside, inside, outside


_DESTINATION_NAMES = (
    "services", "external-services", "short-circuits", "local-services", "drop-services", "reject-services",
)  # fmt: skip
_NODEPORT_NAMES = ("nodeports", "short-circuit-nodeports", "local-nodeports", "drop-nodeports", "reject-nodeports")


def _destinations(size: int, tables: Tables, resolve) -> dict:
    allowed: dict[bytes, set] = {key: set() for key in tables["firewalled"]}
    for key in tables["firewall-allowed"]:
        half = len(key) // 2
        allowed[key[: size + 8]].add((key[size + 8 : half], key[half + size + 8 :]))
    found = {}
    for key in set().union(*(tables[name] for name in _DESTINATION_NAMES), tables["firewalled"]):
        unmatched = ("reject",) if key[:size] in tables["cluster-ips"] else ("none",)
        outcomes = _outcomes(key, tables, _DESTINATION_NAMES, resolve, unmatched)
        ranges = frozenset(allowed[key]) if key in allowed else None
        port = key[size + 4] << 8 | key[size + 5]
        found[key[:size], key[size], port] = Destination(*outcomes, ranges)
    return found


def _nodeports(tables: Tables, resolve) -> dict:
    found = {}
    for key in set().union(*(tables[name] for name in _NODEPORT_NAMES)):
        outcomes = _outcomes(key, tables, _NODEPORT_NAMES, resolve, ("none",))
        found[key[0], key[4] << 8 | key[5]] = Destination(*outcomes)
    return found
