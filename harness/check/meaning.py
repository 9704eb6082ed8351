"""From the elements of the nftables maps to behaviour: the rules of the skeleton, read by hand.

A new connection is DNATed by the first map that has its destination; what was not DNATed is
dropped or rejected by the sets.  Anything inconsistent raises ValueError.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from harness.behaviour import Behaviour, Destination

Tables = dict[str, dict[bytes, bytes]]
COUNT_SHIFT = 20
FIRST_CLASS = 3072
_ENDPOINT_MAPS = ("tcp-endpoints", "udp-endpoints", "sctp-endpoints")
_AFFINITY_MAPS = ("affinity-tcp", "affinity-udp", "affinity-sctp")
_AFFINITY_CHAIN = re.compile(rb"affinity-(\d+)-(cluster|local)")


class _Picked(NamedTuple):
    """What a pick leads to."""

    targets: frozenset
    affinity_seconds: int


def meaning(family: int, tables: Tables) -> Behaviour:
    """The behaviour that these elements give; ValueError for gaps and leaks among endpoints."""
    size = 4 if family == 4 else 16
    pools = _Pools(size, tables)
    destinations = _destinations(size, tables, pools.resolve)
    nodeports = _nodeports(tables, pools.resolve)
    pools.nothing_leaked()
    return Behaviour(destinations, nodeports, frozenset(tables["cluster-ips"]), frozenset(tables["nodeport-ips"]))


class _Pools:
    """Endpoint sets by number, those with session affinity among them."""

    def __init__(self, size: int, tables: Tables) -> None:
        self._size = size
        self._used: set[int] = set()
        self._pools: dict[int, dict[int, tuple[bytes, int]]] = {}
        unpack = struct.Struct("=II").unpack
        for name in _ENDPOINT_MAPS:
            for key, data in tables[name].items():
                number, slot = unpack(key)
                self._pools.setdefault(number, {})[slot] = self._target(data)
        self._counts = {_number(key): _number(data) for key, data in tables["affinity-picks"].items()}
        self._classes = _classes(tables["picks"])
        self._add_tickets(tables, unpack)

    def _target(self, data: bytes) -> tuple[bytes, int]:
        return data[: self._size], data[self._size] << 8 | data[self._size + 1]

    def _add_tickets(self, tables: Tables, unpack) -> None:
        tickets = {_number(k): self._target(d) for name in _AFFINITY_MAPS for k, d in tables[name].items()}
        members = {_number(key) for key in tables["affinity-members"]}
        if members != tickets.keys():
            raise ValueError(f"tickets without endpoint or membership: {sorted(members ^ tickets.keys())[:9]}")
        for key, data in tables["affinity-slots"].items():
            number, slot = unpack(key)
            ticket = _number(data) | number & 1
            if ticket not in tickets:
                raise ValueError(f"affinity set {number} slot {slot} holds ticket {ticket}, which has no endpoint")
            self._pools.setdefault(number, {})[slot] = tickets.pop(ticket)
        if tickets:
            raise ValueError(f"tickets that no slot holds: {sorted(tickets)[:9]}")

    def resolve(self, pick: bytes | None) -> _Picked | None:
        """The endpoints behind a pick; ValueError unless their slots are dense."""
        if pick is None:
            return None
        value = _number(pick)
        number, count, seconds = value & ((1 << COUNT_SHIFT) - 1), value >> COUNT_SHIFT, 0
        if count >= FIRST_CLASS:
            seconds, local = self._classes[count]
            if self._counts.get(number, 0) & ((1 << COUNT_SHIFT) - 1) != number or number & 1 != local:
                raise ValueError(f"affinity set {number} is led to by the wrong class {count} or count")
            count = self._counts[number] >> COUNT_SHIFT
        pool = self._pools.get(number, {})
        if set(pool) != set(range(count)):
            raise ValueError(f"endpoint set {number} should have {count} slots, has {sorted(pool)[:9]}")
        self._used.add(number)
        return _Picked(frozenset(pool.values()), seconds)

    def nothing_leaked(self) -> None:
        """ValueError for endpoint sets that nothing leads to, but for the unused half of an affinity pair."""
        leaked = self._pools.keys() - self._used
        leaked -= {number for number in leaked if number in self._counts and number ^ 1 in self._used}
        if leaked:
            raise ValueError(f"endpoint sets that nothing leads to: {sorted(leaked)[:9]}")


def _number(data: bytes) -> int:
    return struct.unpack("=I", data[:4])[0]


def _classes(picks: dict[bytes, bytes]) -> dict[int, tuple[int, int]]:
    """(seconds, whether local) by class, from the names of the chains that map `picks` leads to."""
    found = {}
    for key, verdict in picks.items():
        match = _AFFINITY_CHAIN.search(verdict)
        if match:
            found[_number(key) >> COUNT_SHIFT] = int(match[1]), int(match[2] == b"local")
    return found


def _outcomes(key: bytes, tables: Tables, names: tuple[str, ...], resolve, unmatched):
    """(pod, node, external) and affinity of one key; `names`: everyone's maps, short circuit, local, drop, reject."""
    *everyone, short, local, drop, reject = names
    for name in everyone:
        if key in tables[name]:
            picked = resolve(tables[name][key])
            return (("dnat", picked.targets),) * 3, picked.affinity_seconds
    fallback = ("drop",) if key in tables[drop] else ("reject",) if key in tables[reject] else unmatched
    outside, inside = resolve(tables[local].get(key)), resolve(tables[short].get(key))
    seconds = max((p.affinity_seconds for p in (outside, inside) if p), default=0)
    outside = ("dnat", outside.targets) if outside else fallback
    inside = ("dnat", inside.targets) if inside else outside
    return (inside, inside, outside), seconds


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
        outcomes, seconds = _outcomes(key, tables, _DESTINATION_NAMES, resolve, unmatched)
        ranges = frozenset(allowed[key]) if key in allowed else None
        port = key[size + 4] << 8 | key[size + 5]
        found[key[:size], key[size], port] = Destination(*outcomes, ranges, None, seconds)
    return found


def _nodeports(tables: Tables, resolve) -> dict:
    found = {}
    for key in set().union(*(tables[name] for name in _NODEPORT_NAMES)):
        outcomes, seconds = _outcomes(key, tables, _NODEPORT_NAMES, resolve, ("none",))
        found[key[0], key[4] << 8 | key[5]] = Destination(*outcomes, None, None, seconds)
    return found
