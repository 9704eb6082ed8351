"""Derives behaviour from the elements of the nftables maps, following the rules of the skeleton.

A new connection is translated by the first map that contains its destination; untranslated packets are
dropped or rejected by the sets.  Any inconsistency raises ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from harness.judge.behaviour import Behaviour, Destination, Key, Masquerade, Outcome, Target
from harness.judge.oracle.settings import Settings

Tables = dict[str, dict[bytes, bytes]]
COUNT_SHIFT = 20
LARGE_SHIFT = 13
TICKET_SHIFT = 17
PORT_MASK, BLOCK_MASK = 0x1FFFE, 0x1FFE0
_STICKY = {0xFFE: "cluster", 0xFFF: "local"}
_ENDPOINT_MAPS = ("tcp-endpoints", "udp-endpoints", "sctp-endpoints")
_TICKET_MAPS = ("sticky-tcp", "sticky-udp", "sticky-sctp")
_PAIR = struct.Struct("=II")


class _Picked(NamedTuple):
    """The targets of a pick."""

    targets: frozenset[Target]
    affinity_seconds: int


Resolve = Callable[[bytes | None], _Picked | None]
Marked = dict[str, Masquerade]


def behaviour_of(
    family: int,
    tables: Tables,
    settings: Settings | None = None,
    unused: frozenset[frozenset[Target]] = frozenset(),
) -> Behaviour:
    """The behaviour of these elements; ValueError for gaps and unreferenced sets among endpoints.

    Which clients are masqueraded follows from the map and, if given, from `settings`.  Sets with the `unused` endpoints
    may be unreferenced.
    """
    size = 4 if family == 4 else 16
    pools = _Pools(size, tables)
    marked = _marked(size, settings) if settings else {}
    destinations = _destinations(size, tables, pools.resolve, marked)
    nodeports = _nodeports(tables, pools.resolve, marked)
    pools.nothing_leaked(unused)
    return Behaviour(destinations, nodeports, frozenset(tables["cluster-ips"]), frozenset(tables["nodeport-ips"]))


class _Pools:
    """Endpoint sets by number, and those of ports with session affinity by separate numbers."""

    def __init__(self, size: int, tables: Tables) -> None:
        self._size = size
        self._tables = tables
        self._used: set[int] = set()
        self._pools: dict[int, dict[int, tuple[bytes, int]]] = {}
        for name in _ENDPOINT_MAPS:
            for key, data in tables[name].items():
                number, slot = _PAIR.unpack(key)
                self._pools.setdefault(number, {})[slot] = self._target(data)
        self._sticky = self._sticky_pools()
        self._sticky_used: set[int] = set()

    def _target(self, data: bytes) -> tuple[bytes, int]:
        return data[: self._size], data[self._size] << 8 | data[self._size + 1]

    def _sticky_pools(self) -> dict[int, dict[int, tuple[bytes, int]]]:
        """Slots of tickets; ValueError unless each ticket has an endpoint and its memberships equal its sets."""
        tickets = {_number(k): self._target(d) for name in _TICKET_MAPS for k, d in self._tables[name].items()}
        pools: dict[int, dict[int, tuple[bytes, int]]] = {}
        drawn: dict[int, set[int]] = {0: set(), 1: set()}
        for key, data in self._tables["sticky-slots"].items():
            number, slot = _PAIR.unpack(key)
            ticket = _number(data)
            if ticket not in tickets or ticket & PORT_MASK != number & ~1:
                raise ValueError(f"affinity set {number} slot {slot} holds ticket {ticket:#x}, which has no endpoint")
            pools.setdefault(number, {})[slot] = tickets[ticket]
            drawn[number & 1].add(ticket)
        for local, kind in enumerate(_STICKY.values()):
            members = {_number(key) for key in self._tables[f"sticky-{kind}-members"]}
            if members != drawn[local]:
                raise ValueError(f"{kind} tickets without slot or membership: {sorted(members ^ drawn[local])[:9]}")
        if tickets.keys() != drawn[0] | drawn[1]:
            raise ValueError(f"tickets without a slot: {sorted(tickets.keys() - drawn[0] - drawn[1])[:9]}")
        return pools

    def resolve(self, pick: bytes | None) -> _Picked | None:
        """The endpoints of a pick; ValueError unless their slots are dense."""
        if pick is None:
            return None
        value = _number(pick)
        kind = _STICKY.get(value >> COUNT_SHIFT)
        if kind is not None:
            return self._resolve_sticky(kind, value)
        large = value >> 30 == 3
        shift, name, chain = (LARGE_SHIFT, "large-picks", "large") if large else (COUNT_SHIFT, "picks", "pick")
        number, count = value & ((1 << shift) - 1), (value & 0x3FFFFFFF if large else value) >> shift
        self._led(name, value >> shift << shift, f"{chain}-{count}")
        self._used.add(number)
        return _Picked(_dense("endpoint", number, count, self._pools), 0)

    def _resolve_sticky(self, kind: str, value: int) -> _Picked:
        port = value & PORT_MASK
        self._led("picks", value >> COUNT_SHIFT << COUNT_SHIFT, f"sticky-{kind}")
        found = _number(self._tables[f"sticky-{kind}-sets"].get(_pack(port), bytes(4)))
        number, count = found & ((1 << TICKET_SHIFT) - 1), found >> TICKET_SHIFT
        if number != port | (kind == "local"):
            raise ValueError(f"affinity port {port} draws {kind} tickets from set {number}")
        self._led("draws", count << TICKET_SHIFT, f"draw-{count}")
        remember = self._tables[f"sticky-{kind}-timeouts"].get(_pack(port & BLOCK_MASK), b"").decode()
        if not remember.startswith(f"remember-{kind}-"):
            raise ValueError(f"affinity port {port} has no {kind} timeout, but {remember!r}")
        self._sticky_used.add(number)
        return _Picked(_dense("affinity", number, count, self._sticky), int(remember.rpartition("-")[2]))

    def _led(self, name: str, key: int, chain: str) -> None:
        found = self._tables[name].get(_pack(key), b"").decode()
        if found != chain:
            raise ValueError(f"map {name} maps {key:#x} to {found!r}, expected {chain}")

    def nothing_leaked(self, unused: frozenset[frozenset[Target]]) -> None:
        """ValueError for unreferenced endpoint sets, except `unused` ones and the unused half of an affinity pair."""
        leaked = {n for n in self._pools.keys() - self._used if frozenset(self._pools[n].values()) not in unused}
        leaked |= {number for number in self._sticky if not {number, number ^ 1} & self._sticky_used}
        if leaked:
            raise ValueError(f"unreferenced endpoint sets: {sorted(leaked)[:9]}")


def _number(data: bytes) -> int:
    (number,) = struct.unpack("=I", data[:4])
    return int(number)


def _pack(value: int) -> bytes:
    return struct.pack("=I", value)


def _dense(what: str, number: int, count: int, pools: dict[int, dict[int, Target]]) -> frozenset[Target]:
    """The targets of a set; ValueError unless it has the slots 0 to `count` - 1."""
    pool = pools.get(number, {})
    if set(pool) != set(range(count)):
        raise ValueError(f"{what} set {number} should have {count} slots, has {sorted(pool)[:9]}")
    return frozenset(pool.values())


def _marked(size: int, settings: Settings) -> Marked:
    """Whether pods, the node and others are marked for masquerade by the rule with that map (CIP-04, ETP)."""
    others = settings.masquerade_all or settings.detects_pods(size)
    return {
        "services": (settings.masquerade_all, others, others),
        **dict.fromkeys(("external-services", "nodeports"), (True, True, True)),
    }


def _outcomes(
    key: bytes, tables: Tables, names: tuple[str, ...], resolve: Resolve, unmatched: Outcome, marked: Marked
) -> Destination:
    """One key's destination without source ranges; `names`: maps for all, short circuit, local, drop, reject."""
    *everyone, short, local, drop, reject = names
    for name in everyone:
        if key in tables[name]:
            picked = resolve(tables[name][key])
            assert picked, "a key occurs with its data"
            found: Outcome = ("dnat", picked.targets)
            return Destination(found, found, found, None, marked.get(name), picked.affinity_seconds)
    fallback: Outcome = ("drop",) if key in tables[drop] else ("reject",) if key in tables[reject] else unmatched
    own, anywhere = resolve(tables[local].get(key)), resolve(tables[short].get(key))
    seconds = max((p.affinity_seconds for p in (own, anywhere) if p), default=0)
    outside: Outcome = ("dnat", own.targets) if own else fallback
    inside: Outcome = ("dnat", anywhere.targets) if anywhere else outside
    masquerade = (False, anywhere is not None, False) if marked else None
    return Destination(inside, inside, outside, None, masquerade, seconds)


_DESTINATION_NAMES = (
    "services", "external-services", "short-circuits", "local-services", "drop-services", "reject-services",
)  # fmt: skip
_NODEPORT_NAMES = ("nodeports", "short-circuit-nodeports", "local-nodeports", "drop-nodeports", "reject-nodeports")


def _destinations(size: int, tables: Tables, resolve: Resolve, marked: Marked) -> dict[Key, Destination]:
    allowed: dict[bytes, set[tuple[bytes, bytes]]] = {key: set() for key in tables["firewalled"]}
    for key in tables["firewall-allowed"]:
        half = len(key) // 2
        allowed[key[: size + 8]].add((key[size + 8 : half], key[half + size + 8 :]))
    found = {}
    for key in set[bytes]().union(*(tables[name] for name in _DESTINATION_NAMES), tables["firewalled"]):
        unmatched: Outcome = ("reject",) if key[:size] in tables["cluster-ips"] else ("none",)
        destination = _outcomes(key, tables, _DESTINATION_NAMES, resolve, unmatched, marked)
        ranges = frozenset(allowed[key]) if key in allowed else None
        port = key[size + 4] << 8 | key[size + 5]
        found[key[:size], key[size], port] = destination._replace(allowed=ranges)
    return found


def _nodeports(tables: Tables, resolve: Resolve, marked: Marked) -> dict[tuple[int, int], Destination]:
    found = {}
    for key in set[bytes]().union(*(tables[name] for name in _NODEPORT_NAMES)):
        found[key[0], key[4] << 8 | key[5]] = _outcomes(key, tables, _NODEPORT_NAMES, resolve, ("none",), marked)
    return found
