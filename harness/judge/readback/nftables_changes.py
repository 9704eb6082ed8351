"""The elements of one family, kept up to date by the kernel's notifications, and the part that changes concern. Pure.

An element belongs to a unit: a destination, a node port, a set of endpoints, or a port with session affinity, whose
elements only make sense together.  Elements that belong to all (cluster IPs, verdicts) are always part of the part.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol, TypeVar

from harness.judge.behaviour import Behaviour, Destination, Key
from harness.judge.readback.elements import Elements, attributes, collect, verbs_of
from harness.judge.readback.nftables import COUNT_SHIFT, LARGE_SHIFT, PORT_MASK, Tables
from harness.wording import plural

TABLE, SUBSYSTEM, FAMILY_BYTES = b"kube-proxy", 10, 4
ADDED, DELETED, NEWGEN = 12, 14, 15
WHOLE = frozenset((2, 11))
"""NFT_MSG_DELTABLE and DELSET; a set is announced as new by every declaration, even if it existed."""
Place = TypeVar("Place", Key, tuple[int, int])
STICKY = (0xFFE, 0xFFF)
DESTINATIONS = frozenset((
    "services", "external-services", "short-circuits", "local-services", "drop-services", "reject-services",
    "firewalled", "firewall-allowed",
))  # fmt: skip
NODE_PORTS = frozenset(
    ("nodeports", "short-circuit-nodeports", "local-nodeports", "drop-nodeports", "reject-nodeports")
)
PICKING = frozenset((
    "services", "external-services", "short-circuits", "local-services",
    "nodeports", "short-circuit-nodeports", "local-nodeports",
))  # fmt: skip
"""Maps whose data name a set of endpoints, or a port with session affinity."""
ENDPOINTS = frozenset(("tcp-endpoints", "udp-endpoints", "sctp-endpoints"))
TICKETS = frozenset((
    "sticky-slots", "sticky-tcp", "sticky-udp", "sticky-sctp",
    "sticky-cluster-sets", "sticky-local-sets", "sticky-cluster-members", "sticky-local-members",
))  # fmt: skip


class Unit(NamedTuple):
    """The unit of an element; `of` is a key, or the number of a set or port."""

    kind: Literal["destination", "node port", "endpoints", "port"]
    of: bytes | int


def sorter(size: int, name: str) -> Callable[[bytes], Unit] | None:
    """A function from an element of map `name` to its unit, for addresses of `size` bytes; None if all share it."""
    if name in DESTINATIONS:
        return lambda key: Unit("destination", key[: size + 8])
    if name in NODE_PORTS:
        return lambda key: Unit("node port", key)
    if name in ENDPOINTS:
        return lambda key: Unit("endpoints", _number(key))
    return (lambda key: Unit("port", _number(key) & PORT_MASK)) if name in TICKETS else None


def picked(data: bytes) -> Unit:
    """The unit that the data of a map in `PICKING` names."""
    value = _number(data)
    if value >> COUNT_SHIFT in STICKY:
        return Unit("port", value & PORT_MASK)
    return Unit("endpoints", value & ((1 << (LARGE_SHIFT if value >> 30 == 3 else COUNT_SHIFT)) - 1))


class Follower:
    """All elements of one family, from a complete dump on; `touched` are the units that changed since `settle`."""

    def __init__(self, size: int, tables: Tables, verbs: Mapping[tuple[str, bytes], str]) -> None:
        self._sorters = {name: sorter(size, name) for name in tables}
        self._common = {name: dict(elements) for name, elements in tables.items() if not self._sorters[name]}
        self._units: dict[Unit, Tables] = {}
        self._users: dict[Unit, set[Unit]] = {}
        self.verbs = dict(verbs)
        self.touched: set[Unit] = set()
        self.rules_changed = self.hairpins_gone = False
        for name, elements in tables.items():
            for key, data in elements.items() if self._sorters[name] else ():
                self._put(name, key, data)
        self.settle()

    def added(self, name: str, elements: Elements, verbs: Mapping[tuple[str, bytes], str]) -> None:
        """The kernel announced new elements."""
        self.verbs.update(verbs)
        self.rules_changed |= bool(verbs)
        for key, (data, _) in elements.items() if name in self._sorters else ():
            self._take(name, key)
            self._put(name, key, data)

    def deleted(self, name: str, elements: Elements) -> None:
        """The kernel announced deleted elements."""
        self.hairpins_gone |= name == "hairpin-connections"
        for key in elements if name in self._sorters else ():
            self.rules_changed |= self.verbs.pop((name, key), None) is not None
            self._take(name, key)

    def settle(self) -> None:
        """Reset `touched` after it has been judged."""
        self.touched, self.rules_changed, self.hairpins_gone = set(), False, False

    def all_elements(self) -> Tables:
        """All elements, in the form of a dump."""
        return self._of(self._units)

    def part(self, keys: Iterable[Unit]) -> tuple[Tables, set[Unit]]:
        """The elements of the touched units and `keys`, and of all units linked to them; and their destinations."""
        places = {unit for unit in self.touched if unit.kind in ("destination", "node port")}.union(keys)
        for unit in self.touched - places:
            places |= self._users.get(unit, set())
        named = {unit for place in places for unit in self._named(place)}
        return self._of(places | self.touched | named), places

    def _of(self, units: Iterable[Unit]) -> Tables:
        found: Tables = {name: {} if sorts else dict(self._common[name]) for name, sorts in self._sorters.items()}
        for unit in units:
            for name, elements in self._units.get(unit, {}).items():
                found[name].update(elements)
        return found

    def _named(self, place: Unit) -> set[Unit]:
        parts = self._units.get(place, {})
        return {picked(data) for name in PICKING & parts.keys() for data in parts[name].values()}

    def _put(self, name: str, key: bytes, data: bytes) -> None:
        unit_of = self._sorters[name]
        if unit_of is None:
            self._common[name][key] = data
            return
        unit = unit_of(key)
        self.touched.add(unit)
        self._units.setdefault(unit, {}).setdefault(name, {})[key] = data
        if name in PICKING:
            self._users.setdefault(picked(data), set()).add(unit)

    def _take(self, name: str, key: bytes) -> None:
        unit_of = self._sorters[name]
        if unit_of is None:
            self._common[name].pop(key, None)
            return
        unit = unit_of(key)
        self.touched.add(unit)
        data = self._units.get(unit, {}).get(name, {}).pop(key, None)
        if data is not None and name in PICKING and picked(data) not in self._named(unit):
            self._users[picked(data)].discard(unit)


class FollowedFamily(Protocol):
    """A family whose elements are followed."""

    @property
    def follower(self) -> Follower:
        """Its elements."""


def hear(families: Mapping[int, FollowedFamily], kind: int, body: bytes) -> bool:
    """Process one notification; False if the elements of a whole table or set are no longer known."""
    subsystem, what = divmod(kind, 256)
    if subsystem != SUBSYSTEM or what == NEWGEN:
        return True
    family = {2: 4, 10: 6}.get(body[0], 0)
    head = {kind: body[start:end] for kind, start, end in attributes(body, FAMILY_BYTES, len(body))}
    table = head.get(1, b"").rstrip(b"\0")
    if family not in families or not table.startswith(TABLE):
        return True
    if table != TABLE or what in WHOLE:
        return False
    follower = families[family].follower
    if what not in (ADDED, DELETED):  # chains, rules, and declarations
        follower.rules_changed = True
        return True
    name = head[2].rstrip(b"\0").decode()
    elements: Elements = {}
    collect(body, FAMILY_BYTES, len(body), elements)
    if what == DELETED:
        follower.deleted(name, elements)
    else:
        follower.added(name, elements, {(name, key): verb for key, verb in verbs_of(elements).items()})
    return True


def unannounced(followed: Tables, read: Tables) -> list[str]:
    """A line for each set whose elements in the kernel differ from the announced ones."""
    counts = {name: len(followed.get(name, {}).items() ^ elements.items()) for name, elements in read.items()}
    return [
        f"set {name} changed by {plural(count, 'element')} without notice" for name, count in counts.items() if count
    ]


def concerned(follower: Follower, before: Behaviour, expected: Behaviour) -> tuple[Tables, Behaviour]:
    """The elements that changes concern, on the kernel's side or the oracle's, and the expected behaviour of these."""
    keys = {Unit("destination", _destination(key)) for key in _different(before.destinations, expected.destinations)}
    keys |= {Unit("node port", _node_port(*place)) for place in _different(before.nodeports, expected.nodeports)}
    tables, places = follower.part(keys)
    destinations, nodeports = {}, {}
    for unit in places:
        assert isinstance(unit.of, bytes), "places have keys"
        address, (protocol, port) = unit.of[:-8], struct.unpack(">BxxxHxx", unit.of[-8:])
        if address and (found := expected.destinations.get((address, protocol, port))):
            destinations[address, protocol, port] = found
        elif not address and (found := expected.nodeports.get((protocol, port))):
            nodeports[protocol, port] = found
    return tables, expected._replace(destinations=destinations, nodeports=nodeports)


def _different(before: Mapping[Place, Destination], now: Mapping[Place, Destination]) -> set[Place]:
    """Places with another destination; destinations that were not computed again are the same objects."""
    changed = {place for place, found in now.items() if before.get(place) is not found}
    return changed | (before.keys() - now.keys())


def _destination(key: Key) -> bytes:
    return key[0] + _node_port(key[1], key[2])


def _node_port(protocol: int, port: int) -> bytes:
    return struct.pack(">BxxxHxx", protocol, port)


def _number(data: bytes) -> int:
    (number,) = struct.unpack_from("=I", data)
    return int(number)
