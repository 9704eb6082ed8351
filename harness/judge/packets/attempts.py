"""Single connections through a World: what is sent, what is observed, and when nothing more will arrive.

Packets cross the node in order, while they are being sent.  So if a drop is expected, a fence packet that no rule
matches is sent after it: once the fence has arrived, whatever is missing was dropped.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from harness.judge.oracle.settings import packed
from harness.judge.packet import Packet
from harness.places.wire import TCP, UDP, request, segment
from harness.places.world import OUTSIDE_INTERFACE, Sighting, World

QUIET_SECONDS, LIMIT_SECONDS = 0.3, 20.0
"""A packet counts as lost if nothing was seen for this long; crossing the node takes microseconds."""
_FIRST_PORT, _LAST_PORT = 10_000, 40_000
_FENCE_PORT = 9
FENCES = {4: ("198.19.253.1", "198.19.254.1"), 6: ("2001:2:0:253::1", "2001:2:0:254::1")}
"""A pod's address and an external one that no Service uses (RFC 2544, RFC 5180)."""


@dataclass
class Attempt:
    """One packet sent and what was observed; `port` is the client's, `error` why it could not be sent."""

    packet: Packet
    origin: str
    port: int
    number: int
    arrivals: list[Sighting] = field(default_factory=list)
    answered: bool = False
    refused: bool = False
    blocked: bool = False
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected: packets to the node itself and TCP segments are not answered."""
        last = self.arrivals[-1] if self.arrivals else None
        arrived = last is not None and (last.place == "" or last.seen.kind == "segment")
        return self.answered or self.refused or self.blocked or bool(self.error) or arrived

    @property
    def kind(self) -> str:
        """dnat, no-op, reject, drop, or the error of sending it."""
        if self.arrivals:
            return "no-op" if self.target == (self.packet.destination, self.packet.port) else "dnat"
        return "reject" if self.refused else f"error {self.error}" if self.error else "drop"

    @property
    def target(self) -> tuple[bytes, int]:
        """The endpoint where it arrived first."""
        return self.arrivals[0].seen.destination

    @property
    def source(self) -> bytes:
        """The source address that the endpoint saw."""
        return self.arrivals[0].seen.source[0]

    def note(self, sighting: Sighting) -> None:
        """Record one sighting of this attempt."""
        seen = sighting.seen
        if seen.kind in ("request", "segment"):
            self.arrivals.append(sighting)
        elif seen.kind == "answer":
            # Only an answer from the requested address and port reaches the client.
            self.answered |= seen.source == (self.packet.destination, self.packet.port)
        else:
            self.refused |= seen.kind == "unreachable"


class Attempts:
    """Sends from every side of one World.

    A client port is not used twice with the same destination, as connection tracking would remember it.  With
    `ports_apart` it is not used for two destinations either: IP_VS distinguishes replies only by endpoint and client,
    so that of two connections from one port, through different addresses to one endpoint, one gets the other's answers.
    """

    def __init__(self, world: World, ports_apart: bool = False) -> None:
        self.world = world
        self._numbers = count(1)
        self._ports: dict[tuple[bytes | int, ...], int] = {}
        self._ports_apart = ports_apart

    def prepare(self) -> None:
        """Add the routes for fence packets, once."""
        self.world.route_to_pods([packed(pod) for pod, _ in FENCES.values()])

    def send(self, packet: Packet, origin: str, port: int | None = None) -> Attempt:
        """Send the first packet of a connection, from a new port or a given one."""
        if port is None:
            whose = (packet.source, packet.protocol) if self._ports_apart else packet[:4]  # on any interface
            used = self._ports[whose] = self._ports.get(whose, -1) + 1
            port = _FIRST_PORT + used % (_LAST_PORT - _FIRST_PORT)
        attempt = Attempt(packet, origin, port, next(self._numbers))
        ends = (packet.source, port), (packet.destination, packet.port)
        return self._sent(attempt, request(attempt.number, packet.protocol, *ends))

    def follow(self, first: Attempt) -> Attempt:
        """Send another packet of the connection that an attempt began."""
        packet = first.packet
        if packet.protocol != TCP:
            return self.send(packet, first.origin, first.port)
        attempt = Attempt(packet, first.origin, first.port, next(self._numbers))
        ends = (packet.source, first.port), (packet.destination, packet.port)
        return self._sent(attempt, segment(attempt.number, first.number, *ends))

    def _sent(self, attempt: Attempt, data: bytes) -> Attempt:
        try:
            self.world.send(self._interface(attempt.origin), data)
        except PermissionError:  # packets dropped by output rules are errors of the sender
            attempt.blocked = True
        except OSError as error:
            attempt.error = errno.errorcode.get(error.errno or 0, str(error.errno))
        return attempt

    def _interface(self, origin: str) -> str:
        if origin == "node-host":
            return ""
        return self.world.pods_interface if origin == "pod-local" else OUTSIDE_INTERFACE

    def watch(self, attempts: Iterable[Attempt], silent: Callable[[Attempt], bool] = lambda attempt: False) -> None:
        """Collect sightings until all attempts have ended or time is up; `silent` ones are not waited for."""
        known = {attempt.number: attempt for attempt in attempts}
        quiet = [attempt for attempt in known.values() if silent(attempt)]
        loud = {attempt.number for attempt in known.values() if not attempt.ended}.difference(a.number for a in quiet)
        fences = {fence.number: fence for fence in self._fences(quiet)}
        known |= fences
        waiting = loud | fences.keys()
        for sighting in self.world.sightings(QUIET_SECONDS, LIMIT_SECONDS) if waiting else ():
            attempt = known.get(sighting.seen.number)
            if attempt is None:
                continue
            attempt.note(sighting)
            if attempt.ended or (attempt.number in fences and attempt.arrivals):
                waiting.discard(attempt.number)
            if not waiting:
                break
        for sighting in self.world.sightings(0, LIMIT_SECONDS):
            if sighting.seen.number in known:
                known[sighting.seen.number].note(sighting)

    def _fences(self, quiet: list[Attempt]) -> list[Attempt]:
        """One fence for each path on which a drop is expected."""
        ways = {(attempt.origin, 4 if len(attempt.packet.source) == 4 else 6) for attempt in quiet}
        found = []
        for origin, family in sorted(ways):
            pod, outside = (packed(text) for text in FENCES[family])
            source, destination = (pod, outside) if origin == "pod-local" else (outside, pod)
            if origin == "node-host":
                source = self.world.own_address(family)
            found.append(self.send(Packet(source, destination, UDP, _FENCE_PORT), origin))
        return found
