"""Sends a case's packets, and reports their outcomes."""

from __future__ import annotations

import time
from typing import NamedTuple

from harness.acceptance.observer import outcome_of
from harness.judge.oracle.modes import TRAITS
from harness.judge.oracle.settings import packed
from harness.judge.packet import Flow, Outcome, Packet
from harness.judge.packets.attempts import Attempt, Attempts
from harness.places.world import World

COVER, ONE, FEW = 20, 8, 2
"""Connections per endpoint to observe each of n (one is missed with probability n * exp(-20)); to a single one, which
others must not share; and where all of a kind have the same outcome."""
NEIGHBOURS = 40
"""Additional clients with session affinity: with two endpoints, all reach the same one with probability 2 ** -40."""
QUIET_SECONDS = 0.2
_TCP = 6
_CLIENTS = {4: "198.19.251.1", 16: "2001:2:0:251::1"}


class LastPacket(NamedTuple):
    """The last packet that reached another endpoint, and when it was sent."""

    outcome: Outcome
    at: float


class Sender:
    """All clients around one World's node."""

    def __init__(self, world: World, mode: str) -> None:
        self._world = world
        self._attempts = Attempts(world, ports_apart=TRAITS[mode].by_ip_vs)
        self._attempts.prepare()
        self._standing: dict[str, Attempt] = {}

    def forget(self) -> None:
        """Forget open connections at the end of a case."""
        self._standing.clear()

    def outcome(self, flow: Flow, again: bool = False) -> Outcome:
        """The outcome of new connections: every endpoint reached.

        Of those that were wrong before, `again` sends enough for right ones not to be luck.
        """
        ends = len(flow.expected.endpoints) if flow.expected else 0
        self._world.forget()
        few = ONE if ends else FEW
        sent = [self._send(flow) for _ in range(COVER * max(1, ends) if ends > 1 or again else few)]
        self._watch(sent, flow)
        found: Outcome = outcome_of(flow, sent)["outcome"]
        if ends > 1 and found.kind == "dnat" and len(found.endpoints) == 1:
            return self._of_many(flow, found)
        return found

    def _of_many(self, flow: Flow, found: Outcome) -> Outcome:
        """With affinity a client keeps its endpoint, so the others are reached from other clients of the same kind."""
        assert flow.expected
        if flow.origin == "node-host":  # there is only one node, so its endpoint is one of those
            subset = found.endpoints <= flow.expected.endpoints
            return found._replace(endpoints=flow.expected.endpoints) if subset else found
        ends, masquerade = found.endpoints, found.masquerade
        for number in range(1, NEIGHBOURS + 1):
            source = (int.from_bytes(flow.packet.source) + number).to_bytes(len(flow.packet.source))
            if flow.origin == "pod-local":
                self._world.route_to_pods([source])
            other = flow._replace(packet=flow.packet._replace(source=source))
            sent = [self._send(other) for _ in range(FEW)]
            self._watch(sent, other)
            found = outcome_of(other, sent)["outcome"]
            if found.kind != "dnat" or len(found.endpoints) != 1:
                return Outcome(found.kind, found.endpoints, found.masquerade)
            ends |= found.endpoints
            if ends == flow.expected.endpoints:
                break
        return Outcome("dnat", ends, masquerade)

    def stand(self, key: str, flow: Flow) -> Outcome:
        """One packet of an open connection: the first, or a further one."""
        first = self._standing.get(key)
        self._world.forget()
        sent = self._attempts.follow(first) if first else self._send(flow)
        self._standing.setdefault(key, sent)
        self._watch([sent], flow)
        found: Outcome = outcome_of(flow, [sent])["outcome"]
        return found

    def arrives(self, destination: tuple[bytes, int], end: tuple[bytes, int]) -> bool:
        """Whether one connection reaches that endpoint."""
        address, port = destination
        packet = Packet(packed(_CLIENTS[len(address)]), address, _TCP, port)
        self._world.forget()
        sent = self._attempts.send(packet, "external")
        self._attempts.watch([sent], lambda _: True)
        return bool(sent.arrivals) and sent.target == end

    def drain(self, flow: Flow, until: float) -> LastPacket | None:
        """Connect repeatedly until the given time, and on while some reach another endpoint, up to a limit."""
        assert flow.expected
        last: LastPacket | None = None
        end = until + (until - time.monotonic())
        while (now := time.monotonic()) < until or (last and now - last.at < QUIET_SECONDS and now < end):
            sent = self._send(flow)
            self._watch([sent], flow)
            found = outcome_of(flow, [sent])["outcome"]
            if found.kind != "dnat" or not found.endpoints <= flow.expected.endpoints:
                last = LastPacket(found, now)
            elif now < until and last and now - last.at > QUIET_SECONDS:
                break
        return last

    def _send(self, flow: Flow) -> Attempt:
        return self._attempts.send(flow.packet, flow.origin)

    def _watch(self, sent: list[Attempt], flow: Flow) -> None:
        silent = flow.expected is not None and flow.expected.kind == "drop"
        self._attempts.watch(sent, lambda _: silent)
