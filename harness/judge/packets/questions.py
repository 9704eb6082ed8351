"""Which packets to send, from which clients, and the expected fate of each, by the oracle alone. Pure.

In a small cluster everything is checked; in a large one, some destinations of each kind, different ones every time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable, Iterator
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOL_NAMES, Behaviour, Destination, Key, Target
from harness.judge.oracle import Oracle
from harness.judge.oracle.modes import TRAITS
from harness.judge.oracle.packets import Fate, fate
from harness.judge.oracle.scene import CLUSTER, FamilyAddresses
from harness.judge.oracle.settings import block
from harness.judge.packet import Packet

LARGEST = 256
"""Destinations with more endpoints are left to readback: each endpoint costs many connections."""
STRANGERS = {4: "198.19.0.0/17", 6: "2001:2:0:199::/64"}
"""External clients: neither pods nor nodes, and in no source range (RFC 2544, RFC 5180)."""
LOOPBACK = bytes((127, 0, 0, 1))
NODE_PORT, NO_SERVICE = "node port", "no Service"
HERE, ELSEWHERE, NODE, STRANGER = "a local pod", "a remote pod", "the node", "an external client"
LISTED, UNLISTED, HAIRPIN = "an allowed source", "a disallowed source", "an endpoint itself"

_Place = tuple[str, Key, Destination]


class Question(NamedTuple):
    """`what` is the kind of destination, `who` the kind of client; `affinity`: whether session affinity applies."""

    what: str
    who: str
    origin: str
    packet: Packet
    fate: Fate
    affinity: bool = False

    def __str__(self) -> str:
        where = (
            f"{ipaddress.ip_address(self.packet.destination)} {PROTOCOL_NAMES[self.packet.protocol]}/{self.packet.port}"
        )
        return f"{self.what} {where} from {self.who} {ipaddress.ip_address(self.packet.source)}"


class Asking:
    """The questions of one family at one point in time; `own` is a node address that is in no Node object."""

    def __init__(self, oracle: Oracle, family: int, mode: str, scene: FamilyAddresses, own: bytes) -> None:
        self._oracle, self._family, self._mode, self.scene, self._own = oracle, family, mode, scene, own
        self.behaviour: Behaviour = oracle.behaviour(family, mode)
        self._local = {*scene.node, own}
        self._pods = oracle.settings.pod_block(4 if family == 4 else 16)
        self._stranger_block = ipaddress.ip_network(STRANGERS[family])
        self._made_up = cache(self._unused_pod)
        self._is_pod = cache(self._in_pod_block)

    def questions(
        self, protocols: frozenset[int], most: int, turn: int = 0, only: frozenset[bytes] | None = None
    ) -> list[Question]:
        """Questions about at most `most` destinations, sampled by `turn`; `only` restricts the addresses."""
        places = [place for place in self._places(only) if place[1][1] in protocols]
        chosen = sample(places, most, turn)
        found = [question for what, key, known in chosen for question in self._about(what, key, known)]
        return found if only is not None else found + list(self._nobody(protocols))

    def about(self, wanted: Container[tuple[bytes, int, int] | tuple[int, int]]) -> Iterator[Question]:
        """About some destinations, and node ports by (protocol, port)."""
        for what, key, known in self._places(None):
            if key in wanted or key[1:] in wanted:
                yield from self._about(what, key, known)

    def about_gone(self, keys: Iterable[tuple[bytes, int, int]]) -> Iterator[Question]:
        """Questions about destinations that no longer belong to any Service."""
        for key in sorted(keys):
            for who, origin, source in ((HERE, "pod-local", self.pod_here()), (STRANGER, "external", self.stranger(0))):
                yield self._question(NO_SERVICE, who, origin, source, key, None)

    def as_stranger(self, question: Question, number: int) -> Question:
        """The same question for the external client with this number."""
        packet = question.packet
        key = packet.destination, packet.protocol, packet.port
        known = self.behaviour.destinations.get(key) or self.behaviour.nodeports.get(key[1:])
        return self._question(question.what, STRANGER, "external", self.stranger(number), key, known)

    def left_out(self, asked: set[tuple[bytes, int, int]]) -> bool:
        """Whether any destination is missing in `asked`."""
        return any(place[1] not in asked for place in self._places(None))

    def has_large(self) -> bool:
        """Whether any destination has too many endpoints to be checked by packets."""
        return any(_largest(known) > LARGEST for _, _, known in self._places(None))

    def _places(self, only: frozenset[bytes] | None) -> Iterator[_Place]:
        for key in sorted(key for key in self.behaviour.destinations if only is None or key[0] in only):
            yield self.scene.roles.get(key[0], CLUSTER), key, self.behaviour.destinations[key]
        for protocol, port in sorted(self.behaviour.nodeports) if only is None else ():
            for address in (*self.scene.node, self._own, *([LOOPBACK] if self._family == 4 else ())):
                yield NODE_PORT, (address, protocol, port), self.behaviour.nodeports[protocol, port]

    def _about(self, what: str, key: tuple[bytes, int, int], known: Destination) -> Iterator[Question]:
        if _largest(known) > LARGEST:
            return
        if key[0] == LOOPBACK:
            yield self._question(what, NODE, "node-host", LOOPBACK, key, known)
            if TRAITS[self._mode].opens_loopback:  # other modes rely on the kernel's own protection of loopback
                yield self._question(what, STRANGER, "external", self.stranger(0), key, known)
            return
        for who, origin, source in self._clients(key):
            yield self._question(what, who, origin, source, key, known)
        for who, source in self._at_ranges(known.allowed):
            yield self._question(what, who, "external", source, key, known)

    def _clients(self, key: tuple[bytes, int, int]) -> Iterator[tuple[str, str, bytes]]:
        ends = {address for address, _ in self._targets(key)}
        yield HERE, "pod-local", self.pod_here(ends)
        yield ELSEWHERE, "pod-other-node", self.pod_elsewhere(ends)
        if key[0] not in self._local or self.scene.node:
            yield NODE, "node-host", self.scene.node[0] if self.scene.node else self._own
        yield STRANGER, "external", self.stranger(0)
        hairpins = sorted(ends.intersection(self.scene.here).difference(self._local))
        if hairpins:
            yield HAIRPIN, "pod-local", hairpins[0]

    def _targets(self, key: Key) -> frozenset[Target]:
        known = self.behaviour.destinations.get(key) or self.behaviour.nodeports.get(key[1:])
        sets = [outcome[1] for outcome in (known.outcomes if known else ()) if outcome[0] == "dnat"]
        return frozenset().union(*sets)

    def _question(
        self, what: str, who: str, origin: str, source: bytes, key: Key, known: Destination | None
    ) -> Question:
        here = origin == "node-host"
        interface = "" if here else "pods0" if origin == "pod-local" else "eth0"
        local = key[0] in self._local or key[0] == LOOPBACK
        packet = Packet(source, key[0], key[1], key[2], here, local, interface)
        found = fate(self._oracle, packet, self._mode, self.behaviour)
        return Question(what, who, origin, packet, found, bool(known and known.affinity_seconds))

    def _at_ranges(self, allowed: Iterable[tuple[bytes, bytes]] | None) -> Iterator[tuple[str, bytes]]:
        """The first and last address of each source range, and the addresses next to them."""
        for first, last in sorted(allowed or ()):
            low, high, size = int.from_bytes(first), int.from_bytes(last), len(first)
            for who, number in ((LISTED, low), (LISTED, high), (UNLISTED, low - 1), (UNLISTED, high + 1)):
                source = number.to_bytes(size) if 0 <= number < 1 << 8 * size else b""
                inside = any(a <= source <= b for a, b in allowed or ())
                if source and (who == LISTED) == inside and self._may_send(source):
                    yield who, source

    def _may_send(self, source: bytes) -> bool:
        """Whether it is a valid source address: hosts drop others before any proxy rule."""
        address = ipaddress.ip_address(source)
        odd = address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local
        return not (odd or source in self._local or (self._family == 4 and (source[0] in (0, *range(224, 256)))))

    def pod_here(self, other_than: Iterable[bytes] = ()) -> bytes:
        """A pod of this node other than the given endpoints."""
        free = (a for a in self.scene.here if a not in other_than and a not in self._local and self._is_pod(a))
        return next(free, None) or self._made_up(1)

    def pod_elsewhere(self, other_than: Iterable[bytes] = ()) -> bytes:
        """A pod of another node other than the given endpoints."""
        free = (a for a in self.scene.elsewhere if a not in other_than and self._is_pod(a))
        return next(free, None) or self._made_up(2)

    def _in_pod_block(self, address: bytes) -> bool:
        return self._pods is None or ipaddress.ip_address(address) in self._pods

    def _unused_pod(self, number: int) -> bytes:
        """An unused pod address, counted from the end of the pod CIDR."""
        if self._pods is None:
            return self._stranger_block[-1 - number].packed
        taken = {*self.scene.here, *self.scene.elsewhere, *self._local}
        last = int(self._pods.broadcast_address)
        tries = (ipaddress.ip_address(last - number - 16 * step).packed for step in range(1, 64))
        return next(
            (a for a in tries if a not in taken), self.scene.elsewhere[0] if self.scene.elsewhere else self._own
        )

    def stranger(self, number: int) -> bytes:
        """The external client with this number."""
        return self._stranger_block[256 + number].packed

    def _nobody(self, protocols: frozenset[int]) -> Iterator[Question]:
        """Addresses and ports that belong to no Service port."""
        ports = {port for _, _, port in self.behaviour.destinations} | {port for _, port in self.behaviour.nodeports}
        free = next(port for port in range(7, 65536) if port not in ports)
        addresses = sorted(a for a, role in self.scene.roles.items() if role == CLUSTER)[:2]
        addresses += [a for a in map(self._unallocated, self._oracle.settings.service_cidrs) if a]
        for address in addresses if 6 in protocols else ():
            for who, origin, source in ((HERE, "pod-local", self.pod_here()), (STRANGER, "external", self.stranger(0))):
                yield self._question(NO_SERVICE, who, origin, source, (address, 6, free), None)

    def _unallocated(self, text: str) -> bytes | None:
        network = block(text)
        if (network.version == 4) != (self._family == 4):
            return None
        numbers = (int(network.broadcast_address) - step for step in range(1, 64))
        free = (ipaddress.ip_address(number).packed for number in numbers)
        return next((a for a in free if a not in self.scene.roles), None)


def sample(places: list[_Place], most: int, turn: int) -> list[_Place]:
    """All places, or a round-robin sample of each kind: by role, protocol and outcomes."""
    if len(places) <= most:
        return places
    kinds: dict[tuple[object, ...], list[_Place]] = {}
    for place in places:
        kinds.setdefault(_kind(*place), []).append(place)
    turned = [group[turn % len(group) :] + group[: turn % len(group)] for _, group in sorted(kinds.items())]
    rounds = (place for layer in zip_longest(*turned) for place in layer if place is not None)
    return [place for place, _ in zip(rounds, range(most), strict=False)]


def _largest(known: Destination) -> int:
    return max((len(outcome[1]) for outcome in known[:3] if outcome[0] == "dnat"), default=0)


def _kind(what: str, key: Key, known: Destination) -> tuple[object, ...]:
    outcomes = tuple((o[0], min(len(o[1]), 3) if o[0] == "dnat" else 0) for o in known.outcomes)
    return what, key[1], outcomes, known.allowed is not None, str(known.masquerade), bool(known.affinity_seconds)
