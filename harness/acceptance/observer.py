"""Observes real kernels: sends a flow's first packets and reports their outcome.

Received at an endpoint: translated, or forwarded unchanged; an ICMP error at the client: rejected; nothing
within the timeout: dropped.  Several attempts per flow, each from another port, show every endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from engine.kernel.interface import Applied, KernelOfMode
from engine.program import Program
from harness.acceptance.case_config import interface_of
from harness.acceptance.cases import Case
from harness.judge.oracle.settings import packed
from harness.judge.packet import Flow, Outcome
from harness.judge.packets.attempts import Attempt, Attempts
from harness.modes import mode_of
from harness.places.place import Place
from harness.places.world import World

ATTEMPTS_AN_ENDPOINT, ENOUGH_AN_ENDPOINT = 20, 5
"""Attempts per possible endpoint: one of n is missed with a probability of n * exp(-20).  If attempts are expensive
(session affinity), the second number suffices once all expected endpoints have answered."""


class PacketObserver:
    """Observes the kernel of a World's node; see `harness.acceptance.run.Observer`."""

    def __init__(
        self, world: World, kernel: KernelOfMode, forget: Callable[[], None], attempts: int = ATTEMPTS_AN_ENDPOINT
    ) -> None:
        self.world = world
        self._kernel, self._forget, self._count = kernel, forget, attempts
        self._attempts = Attempts(world)

    def apply(self, program: Program) -> Applied:
        """Apply the program in the node's namespace."""
        return self._kernel.apply(program)

    def forget_clients(self) -> None:
        """Clear the clients recorded by rules."""
        self._forget()

    def observe(self, flows: list[Flow]) -> list[dict[str, Any]]:
        """All flows at once; those of Services with session affinity repeatedly, with clients cleared in between."""
        sent = [[self._send(flow) for _ in range(self._effort(flow))] for flow in flows]
        self._attempts.watch(attempt for attempts in sent for attempt in attempts)
        found = [outcome_of(flow, attempts) for flow, attempts in zip(flows, sent, strict=True)]
        for place, flow in enumerate(flows):
            if self._sticks(flow, found[place]["outcome"]):
                found[place] = self._observe_sticky(flow)
        return found

    def _effort(self, flow: Flow) -> int:
        endpoints = _expected(flow)
        return self._count * endpoints if endpoints > 1 else 4

    @staticmethod
    def _sticks(flow: Flow, outcome: Outcome) -> bool:
        """Whether only one of several endpoints answered: affinity, as this is unlikely by chance."""
        return outcome.kind == "dnat" and len(outcome.endpoints) == 1 and _expected(flow) > 1

    def _observe_sticky(self, flow: Flow) -> dict[str, Any]:
        attempts: list[Attempt] = []
        for _ in range(ATTEMPTS_AN_ENDPOINT * _expected(flow)):
            self._forget()
            attempts.append(self._send(flow))
            self._attempts.watch(attempts[-1:])
            found = outcome_of(flow, attempts) | {"affinity": True}
            enough = ENOUGH_AN_ENDPOINT * _expected(flow)
            if found["outcome"] == flow.expected and len(attempts) >= enough:
                break
        return found

    def connect(self, flow: Flow) -> Outcome:
        """One connection."""
        attempts = [self._send(flow)]
        self._attempts.watch(attempts)
        outcome: Outcome = outcome_of(flow, attempts)["outcome"]
        return outcome

    def _send(self, flow: Flow) -> Attempt:
        return self._attempts.send(flow.packet, flow.origin)


def _expected(flow: Flow) -> int:
    """The number of endpoints that the case expects."""
    return len(flow.expected.endpoints) if flow.expected else 0


def outcome_of(flow: Flow, attempts: list[Attempt]) -> dict[str, Any]:
    """The observed outcome of all attempts, as the oracle's `Outcome` fields and the number of attempts."""
    kinds = {attempt.kind for attempt in attempts}
    if kinds != {"dnat"}:
        return {"outcome": Outcome(" or ".join(sorted(kinds))), "attempts": len(attempts)}
    masqueraded = any(attempt.source != flow.packet.source for attempt in attempts)
    answered = sum(attempt.answered for attempt in attempts)
    outcome = Outcome("dnat", frozenset(attempt.target for attempt in attempts), masqueraded)
    return {"outcome": outcome, "attempts": len(attempts), "answered": answered}


@contextmanager
def open_observer(case: Case, mode: str) -> Iterator[PacketObserver]:
    """A world created for one case: the node has its addresses, pods and endpoints are behind the veth."""
    asked = mode_of(mode)
    config = case.proxy_config()
    with World(interface_of("pod-local", case.raw), asked.user_namespace) as world:
        place = Place("netns", world.node.socket, world.node.run)
        pods, nodes = addresses_of(case)
        world.add_addresses(list(config.local_addresses or config.node_addresses) + nodes)
        world.route_to_pods([a for a in pods if a not in config.local_addresses])
        with asked.real(place) as opened:
            yield PacketObserver(world, opened.kernel, lambda: asked.forget_clients(place))


def addresses_of(case: Case) -> tuple[list[bytes], list[bytes]]:
    """Addresses of pods and endpoints, and those of the node as a client."""
    pods: set[bytes] = set()
    nodes: set[bytes] = set()
    for stage in case.stages:
        flows = [*stage.flows, *(entry.flow for entry in stage.sequence)]
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
    """Every valid address in a slice."""
    found = set()
    for endpoint in json.loads(manifest).get("endpoints") or ():
        for text in endpoint.get("addresses") or ():
            with suppress(ValueError):
                found.add(packed(text))
    return found
