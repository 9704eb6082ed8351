"""One packet at the userspace proxy: which frontend takes it, and the endpoint set that its client is let into.

[a socket of its own, or a node port's] -> sources -> inside or outside -> endpoint set
[an address of loopback, no socket]     -> refused
"""

from __future__ import annotations

import ipaddress

import msgspec

from engine.backends.userspace.program import NODE, Rule, UserspaceProgram, frontend_name
from engine.backends.userspace.tables import Tables
from engine.model import UDP
from harness.trace.packet import Outcome, Packet, Trace


class UserspaceTracer:
    """One family from the programs' own JSON; `local` addresses are known by the packets themselves."""

    def __init__(self, family: int) -> None:
        self.now = 0.0
        self._tables = Tables(family)
        self._clients: dict[tuple[str, bytes], tuple[float, tuple[bytes, int]]] = {}

    def feed(self, text: str) -> None:
        """Take one program in."""
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
            return Trace(Outcome("reject"), (*steps, "nobody is let in: the port is closed"))
        refused = Outcome("drop" if packet.protocol == UDP else "reject")  # at an open port
        allowed = self._tables.allowed.get(name)
        if allowed and not _within(packet.source, allowed):
            return Trace(refused, (*steps, f"sources {', '.join(allowed)}: refused"))
        chosen = self._chosen(packet, rule, steps)
        if chosen is None:
            return Trace(refused, (*steps, "refused"))
        targets = self._tables.sets[chosen].targets
        steps.append(f"set {chosen}: {', '.join(targets)}")
        return Trace(Outcome("dnat", frozenset(map(_target, targets)), True), tuple(steps))

    def connect(self, packet: Packet, index: int = 0) -> Outcome:
        """One connection: to the endpoint that the client had, or to the one at `index`, in turn."""
        outcome = self.trace(packet).outcome
        if outcome.kind != "dnat":
            return outcome
        chosen = self._chosen(packet, self._frontend(packet)[1], [])
        targets = list(map(_target, self._tables.sets[chosen].targets))
        seconds = self._tables.sets[chosen].affinity_seconds
        until, kept = self._clients.get((chosen, packet.source), (0.0, None))
        target = kept if until > self.now and kept in targets else targets[index % len(targets)]
        if seconds:
            self._clients[chosen, packet.source] = self.now + seconds, target
        return outcome._replace(endpoints=frozenset([target]))

    def _frontend(self, packet: Packet) -> tuple[str, Rule | None]:
        """The name and rule of a frontend of the destination itself, else of a node port."""
        name = frontend_name(packet.destination, packet.protocol, packet.port)
        if name in self._tables.rules:
            return name, self._tables.rules[name]
        if str(ipaddress.ip_address(packet.destination)) in self._tables.node_addresses:
            port = NODE + name[name.rindex(":") :]
            return (port, self._tables.rules[port]) if port in self._tables.rules else (name, None)
        return name, None

    def _chosen(self, packet: Packet, rule: Rule, steps: list[str]) -> str | None:
        """The endpoint set for the client; by what it was told is added to `steps`."""
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
    """The mode's tracer; what is local it learns packet by packet."""
    return UserspaceTracer(family)
