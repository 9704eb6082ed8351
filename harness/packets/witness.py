"""The kernel as a judge: sends a flow's first packets and tells what became of them.

Seen at an endpoint: translated, or let through; an ICMP error at the client: rejected; nothing within
the time allowed: dropped.  Several attempts a flow, each from a port of its own, show every endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from engine.kernel.base import Applied, Kernel
from engine.program import Program
from harness.modes import module_of, user_namespace
from harness.modes.place import Place
from harness.oracle.settings import packed
from harness.packets.wire import request
from harness.packets.world import OUTSIDE_INTERFACE, Sighting, World
from harness.trace.case_config import interface_of
from harness.trace.cases import Case, Flow
from harness.trace.packet import Outcome

QUIET_SECONDS, LIMIT_SECONDS = 0.3, 20.0
"""A packet is lost when nothing at all was seen for so long; a packet crosses the node in microseconds."""
ATTEMPTS_AN_ENDPOINT, ENOUGH_AN_ENDPOINT = 20, 5
"""Attempts a possible endpoint: one of n is missed with a chance of n * exp(-20).  Where each of them is dear
(session affinity), so many are enough once all that should answer have."""
_FIRST_PORT, _LAST_PORT = 10_000, 60_000


@dataclass
class _Attempt:
    """One packet sent and what was seen of it."""

    flow: Flow
    arrivals: list[Sighting] = field(default_factory=list)
    answered: bool = False
    refused: bool = False


class KernelWitness:
    """Judges by the kernel of a World's node; see `harness.trace.run.Witness`."""

    def __init__(
        self, world: World, kernel: Kernel, forget: Callable[[], None], attempts: int = ATTEMPTS_AN_ENDPOINT
    ) -> None:
        self.world = world
        self._kernel, self._forget, self._attempts = kernel, forget, attempts
        self._numbers = count(1)
        self._ports = count()

    def apply(self, program: Program) -> Applied:
        """Make the program live in the node's namespace."""
        return self._kernel.apply(program)

    def forget_clients(self) -> None:
        """Empty what the rules remember of clients."""
        self._forget()

    def observe(self, flows: list[Flow]) -> list[dict[str, Any]]:
        """All flows at once; those of Services with session affinity again and again, forgotten in between."""
        attempts: dict[int, _Attempt] = {}
        for flow in flows:
            for _ in range(self._effort(flow)):
                self._send(flow, attempts)
        self._watch(attempts)
        found = [self._outcome(flow, attempts) for flow in flows]
        for place, flow in enumerate(flows):
            if self._sticks(flow, found[place]["outcome"]):
                found[place] = self._observe_sticky(flow)
        return found

    def _effort(self, flow: Flow) -> int:
        endpoints = len(flow.expected.endpoints) if flow.expected else 0
        return self._attempts * endpoints if endpoints > 1 else 4

    @staticmethod
    def _sticks(flow: Flow, outcome: Outcome) -> bool:
        """Whether always one endpoint answered of several: affinity, as chance hardly does that."""
        return outcome.kind == "dnat" and len(outcome.endpoints) == 1 and len(flow.expected.endpoints) > 1

    def _observe_sticky(self, flow: Flow) -> dict[str, Any]:
        attempts: dict[int, _Attempt] = {}
        for _ in range(ATTEMPTS_AN_ENDPOINT * len(flow.expected.endpoints)):
            self._forget()
            one: dict[int, _Attempt] = {}
            self._send(flow, one)
            self._watch(one)
            attempts |= one
            found = self._outcome(flow, attempts) | {"affinity": True}
            enough = ENOUGH_AN_ENDPOINT * len(flow.expected.endpoints)
            if found["outcome"] == flow.expected and len(attempts) >= enough:
                break
        return found

    def connect(self, flow: Flow) -> Outcome:
        """One connection."""
        attempts: dict[int, _Attempt] = {}
        self._send(flow, attempts)
        self._watch(attempts)
        return self._outcome(flow, attempts)["outcome"]

    def _send(self, flow: Flow, attempts: dict[int, _Attempt]) -> None:
        number = next(self._numbers)
        port = _FIRST_PORT + next(self._ports) % (_LAST_PORT - _FIRST_PORT)
        attempts[number] = _Attempt(flow)
        packet = flow.packet
        self.world.send(
            _interface(flow, self.world),
            request(number, packet.protocol, (packet.source, port), (packet.destination, packet.port)),
        )

    def _watch(self, attempts: dict[int, _Attempt]) -> None:
        """Collect what is seen until every attempt has an end, or the time is up."""
        open_ones = set(attempts)
        for sighting in self.world.sightings(QUIET_SECONDS, LIMIT_SECONDS):
            attempt = attempts.get(sighting.seen.number)
            if attempt is None:
                continue
            _note(attempt, sighting)
            if attempt.answered or attempt.refused or (attempt.arrivals and attempt.arrivals[-1].place == ""):
                open_ones.discard(sighting.seen.number)
            if not open_ones:
                return

    @staticmethod
    def _outcome(flow: Flow, attempts: dict[int, _Attempt]) -> dict[str, Any]:
        mine = [attempt for attempt in attempts.values() if attempt.flow is flow]
        kinds = {_kind(attempt) for attempt in mine}
        if kinds != {"dnat"}:
            kind = kinds.pop() if len(kinds) == 1 else " or ".join(sorted(kinds))
            return {"outcome": Outcome(kind), "attempts": len(mine)}
        arrived = [attempt.arrivals[0].seen for attempt in mine]
        masqueraded = any(seen.source[0] != flow.packet.source for seen in arrived)
        answered = sum(attempt.answered for attempt in mine)
        outcome = Outcome("dnat", frozenset(seen.destination for seen in arrived), masqueraded)
        return {"outcome": outcome, "attempts": len(mine), "answered": answered}


def _note(attempt: _Attempt, sighting: Sighting) -> None:
    kind = sighting.seen.kind
    if kind == "request":
        attempt.arrivals.append(sighting)
    elif kind == "answer":
        # Only an answer from the very address that was asked is one to the client.
        packet = attempt.flow.packet
        attempt.answered |= sighting.seen.source == (packet.destination, packet.port)
    else:
        attempt.refused |= kind == "unreachable"


def _kind(attempt: _Attempt) -> str:
    if attempt.arrivals:
        packet = attempt.flow.packet
        untouched = attempt.arrivals[0].seen.destination == (packet.destination, packet.port)
        return "no-op" if untouched else "dnat"
    return "reject" if attempt.refused else "drop"


def _interface(flow: Flow, world: World) -> str:
    if flow.origin == "node-host":
        return ""
    return world.pods_interface if flow.origin == "pod-local" else OUTSIDE_INTERFACE


@contextmanager
def open_witness(case: Case, mode: str) -> Iterator[KernelWitness]:
    """A world made for one case: its addresses are the node's, its pods and endpoints beyond the veth."""
    module = module_of(mode)
    config = case.proxy_config()
    with World(interface_of("pod-local", case.raw), user_namespace(module)) as world:
        place = Place("netns", world.node.socket, world.node.run)
        pods, nodes = _addresses(case)
        world.add_addresses(list(config.local_addresses or config.node_addresses) + nodes)
        world.route_to_pods([a for a in pods if a not in config.local_addresses])
        with module.real(place) as opened:
            forget = getattr(module, "forget_clients", lambda place: None)
            yield KernelWitness(world, opened.kernel, lambda: forget(place))


def _addresses(case: Case) -> tuple[list[bytes], list[bytes]]:
    """Addresses of pods and endpoints, and those by which the node itself is a client."""
    pods: set[bytes] = set()
    nodes: set[bytes] = set()
    for stage in case.stages:
        flows = [*stage.flows, *(entry["flow"] for entry in stage.sequence)]
        for flow in flows:
            pods |= {address for address, _ in flow.expected.endpoints} if flow.expected else set()
            if flow.origin == "pod-local":
                pods.add(flow.packet.source)
            if flow.origin == "node-host":
                nodes.add(flow.packet.source)
        for kind, resource, manifest in stage.events:
            if resource == "endpointslices" and kind != "DELETED":
                pods |= _endpoint_addresses(manifest)
    return sorted(pods), sorted(nodes)


def _endpoint_addresses(manifest: bytes) -> set[bytes]:
    """Every address in a slice that is one."""
    found = set()
    for endpoint in json.loads(manifest).get("endpoints") or ():
        for text in endpoint.get("addresses") or ():
            with suppress(ValueError):
                found.add(packed(text))
    return found
