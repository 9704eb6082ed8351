"""Traces one packet at the userspace proxy: its frontend, and the endpoint set chosen for its client.

[socket of the destination, or of a node port] -> sources -> inside or outside -> endpoint set
[address on loopback without a socket]         -> refused
"""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from engine.backends.userspace.program import NODE, Rule, UserspaceProgram, frontend_name
from engine.backends.userspace.tables import Tables
from engine.model import UDP
from harness.judge.packet import Outcome, Packet, Trace


class UserspaceTracer:
    """The state of one family from the programs' JSON; whether an address is local is part of the packet."""

    def __init__(self, family: int) -> None:
        self.now = 0.0
        self._tables = Tables(family)
        self._clients: dict[tuple[str, bytes], tuple[float, tuple[bytes, int]]] = {}

    def feed(self, text: str) -> None:
        """Apply one program."""
        self._tables.apply(msgspec.json.decode(text, type=UserspaceProgram))

    def trace(self, packet: Packet) -> Trace:
        """Every endpoint that the client may be sent to."""
        name, rule = self._frontend(packet)
        if rule is None:
            address = str(ipaddress.ip_address(packet.destination))
            if address in self._tables.addresses:
                return Trace(Outcome("reject"), (f"{address} on lo", f"no socket {name}"))
            return Trace(Outcome("no-op"), (f"no frontend {name}",))
        steps = [f"frontend {name}: inside {rule.inside}, outside {rule.outside}"]
        if not (rule.inside or rule.outside) or name.endswith("/sctp"):
            return Trace(Outcome("reject"), (*steps, "no client is admitted: the port is closed"))
        refused = Outcome("drop" if packet.protocol == UDP else "reject")  # at an open port
        allowed = self._tables.allowed.get(name)
        if allowed and not _within(packet.source, allowed):
            return Trace(refused, (*steps, f"sources {', '.join(allowed)}: refused"))
        chosen = self._chosen(packet, rule, steps)
        if chosen is None:
            return Trace(refused, (*steps, "refused"))
        targets = self._tables.sets[chosen].targets
        steps.append(f"set {chosen}: {', '.join(targets)}")
        return Trace(Outcome("dnat", frozenset(map(_target, targets)), masquerade=True), tuple(steps))

    def facts(self) -> dict[str, Any]:
        """Empty: in this mode cases assert only packets."""
        return {}

    def connect(self, packet: Packet, index: int = 0) -> Outcome:
        """One connection, to its client's previous endpoint, or to the one at `index` modulo their count."""
        outcome, (_, rule) = self.trace(packet).outcome, self._frontend(packet)
        chosen = self._chosen(packet, rule, []) if rule else None
        if outcome.kind != "dnat" or chosen is None:
            return outcome
        targets = list(map(_target, self._tables.sets[chosen].targets))
        seconds = self._tables.sets[chosen].affinity_seconds
        until, kept = self._clients.get((chosen, packet.source), (0.0, (b"", 0)))
        target = kept if until > self.now and kept in targets else targets[index % len(targets)]
        if seconds:
            self._clients[chosen, packet.source] = self.now + seconds, target
        return outcome._replace(endpoints=frozenset([target]))

    def _frontend(self, packet: Packet) -> tuple[str, Rule | None]:
        """The name and rule of the destination's frontend, else that of a node port."""
        name = frontend_name(packet.destination, packet.protocol, packet.port)
        if name in self._tables.rules:
            return name, self._tables.rules[name]
        if str(ipaddress.ip_address(packet.destination)) in self._tables.node_addresses:
            port = NODE + name[name.rindex(":") :]
            return (port, self._tables.rules[port]) if port in self._tables.rules else (name, None)
        return name, None

    def _chosen(self, packet: Packet, rule: Rule, steps: list[str]) -> str | None:
        """The endpoint set for the client; the reason is added to `steps`."""
        pods = self._tables.pods
        if pods and _within(packet.source, (pods,)):
            steps.append(f"a pod, by {pods}")
            return rule.inside
        steps.append("this node" if packet.source_local else "neither pod nor this node")
        return rule.inside if packet.source_local else rule.outside


def _within(address: bytes, networks: tuple[str, ...]) -> bool:
    found = ipaddress.ip_address(address)
    return any(found in ipaddress.ip_network(network) for network in networks)


def _target(text: str) -> tuple[bytes, int]:
    host, _, port = text.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")).packed, int(port)


def tracer(family: int, local_addresses: frozenset[bytes]) -> UserspaceTracer:
    """The mode's tracer."""
    return UserspaceTracer(family)
