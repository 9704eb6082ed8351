"""Traces one packet through the nat and filter tables of iptables, in the kernel's order.

    forwarded:  nat PREROUTING -> filter FORWARD -> nat POSTROUTING
    to node:    nat PREROUTING -> filter INPUT
    from node:  nat OUTPUT -> filter OUTPUT -> nat POSTROUTING -> [filter INPUT, if its destination is local]

If a rule draws at random (`statistic`) the packet follows both branches in turn; clients that a rule
records (`recent`) expire by the tracer's own clock.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from harness.judge.packet import Outcome, Packet, Trace
from harness.judge.readback.iptables_text import ParsedTables
from harness.judge.trace.choices import Choices, merged
from harness.judge.trace.iptables_rules import MatchState, PacketHeader, Rule, marked, read_rule

_REFUSED = {"DROP": "drop", "REJECT": "reject"}
_ENDS = {"ACCEPT", "DNAT", "MASQUERADE", *_REFUSED}
_DEPTH = 16
_MARTIANS = "127.0.0.0/8"


class IptablesTracer:
    """The rules of one family from text: printed programs, or the output of `iptables-save`."""

    def __init__(self, family: int, local_addresses: frozenset[bytes] = frozenset()) -> None:
        self.now = 0.0
        self._tables = ParsedTables()
        self._local = local_addresses
        self._read: dict[str, Rule] = {}
        self._clients: dict[tuple[str, bytes], float] = {}

    def feed(self, text: str) -> None:
        """Apply one text as `iptables-restore --noflush` would; ValueError if it cannot be parsed."""
        self._tables.feed(text)
        self._read.clear()
        self._forget_lists()

    def _forget_lists(self) -> None:
        """Drop a list of clients with the last rule that names it, as the kernel does."""
        names = {name for name, _ in self._clients}
        if names:
            rules = (rule for lines in self._tables.chains.values() for rule in lines if "--name " in rule)
            names -= {rule.partition("--name ")[2].split()[0] for rule in rules}
            self._clients = {key: at for key, at in self._clients.items() if key[0] not in names}

    def trace(self, packet: Packet) -> Trace:
        """All possible paths of the packet, without recording its client."""
        outcomes: dict[Outcome, None] = {}
        steps: dict[str, None] = {}
        for walk in self._walks(packet):
            outcomes.setdefault(walk.outcome)
            steps.update(dict.fromkeys(walk.steps))
        return Trace(merged(list(outcomes)), tuple(steps))

    def connect(self, packet: Packet, index: int = 0) -> Outcome:
        """One connection on the path with that number, modulo their count; its client is recorded."""
        walks = self._walks(packet)
        walk = walks[index % len(walks)]
        self._clients.update(walk.noted)
        return walk.outcome

    def facts(self) -> dict[str, Any]:
        """Whether packets from elsewhere to loopback addresses are dropped (NP-05), as a case asserts it."""
        rules = self._tables.rules("filter", "KUBE-FIREWALL")
        return {"martian_firewall_rule": any(f"-d {_MARTIANS}" in r and r.endswith("-j DROP") for r in rules)}

    def is_local(self, address: bytes) -> bool:
        """Whether the node owns an address."""
        return address in self._local or ipaddress.ip_address(address).is_loopback

    def rules(self, table: str, chain: str) -> list[Rule]:
        """A chain's rules; an absent built-in chain has none."""
        return [self._rule(line) for line in self._tables.rules(table, chain)]

    def has_chain(self, table: str, chain: str) -> bool:
        """Whether there is a chain of that name."""
        return (table, chain) in self._tables.chains

    def policy(self, table: str, chain: str) -> str:
        """The policy of a built-in chain."""
        return self._tables.policies.get((table, chain), "ACCEPT")

    def last_seen(self, name: str, address: bytes) -> float | None:
        """When an address was last recorded in a list of clients."""
        return self._clients.get((name, address))

    def _rule(self, line: str) -> Rule:
        found = self._read.get(line)
        if found is None:
            found = self._read[line] = read_rule(line)
        return found

    def _walks(self, packet: Packet) -> list[_Walk]:
        """One walk per path."""
        choices, walks = Choices(), []
        while True:
            walks.append(_Walk(self, packet, choices))
            if not choices.advance():
                return walks


class _Walk:
    """One packet on one path: its `outcome`, the matching rules as `steps`, and the lists that `noted` its client."""

    def __init__(self, tracer: IptablesTracer, packet: Packet, choices: Choices) -> None:
        self._tracer, self._packet, self._choices = tracer, packet, choices
        self.steps: list[str] = []
        self.noted: dict[tuple[str, bytes], float] = {}
        self._target: tuple[bytes, int] | None = None
        self._header = PacketHeader(
            packet.source, packet.destination, packet.protocol, packet.port, packet.interface, 0,
            packet.source_local or tracer.is_local(packet.source),
            packet.destination_local,
        )  # fmt: skip
        self._around = MatchState(drawn=lambda: choices.draw(2) == 0, seen=self._seen)
        self.outcome = self._run()

    def _run(self) -> Outcome:
        from_node = self._packet.source_local
        self._hook("nat", "OUTPUT" if from_node else "PREROUTING")
        stays = self._header.destination_local
        first = "OUTPUT" if from_node else "INPUT" if stays else "FORWARD"
        refused = _REFUSED.get(self._hook("filter", first))
        masqueraded = False
        if not refused and first != "INPUT":
            masqueraded = self._hook("nat", "POSTROUTING") == "MASQUERADE"
        if not refused and from_node and stays:
            refused = _REFUSED.get(self._hook("filter", "INPUT"))
        if refused:
            return Outcome(refused)
        if self._target is None:
            return Outcome("no-op")
        return Outcome("dnat", frozenset((self._target,)), masqueraded)

    def _hook(self, table: str, chain: str) -> str:
        """The verdict of a built-in chain."""
        return self._chain(table, chain, 0) or self._tracer.policy(table, chain)

    def _chain(self, table: str, chain: str, depth: int) -> str | None:
        """The verdict of a chain, None if it ended without one or by RETURN."""
        if depth > _DEPTH:
            raise ValueError(f"chains of table {table} form a loop at {chain}")
        for rule in self._tracer.rules(table, chain):
            if not rule.holds(self._header, self._around):
                continue
            if rule.target:
                self.steps.append(f"{table}: {rule.text}")
            if rule.target == "RETURN":
                return None
            verdict = self._apply(table, rule, depth)
            if verdict:
                return verdict
        return None

    def _apply(self, table: str, rule: Rule, depth: int) -> str | None:
        """The verdict of a matching rule, None to continue with the next."""
        if rule.target == "MARK":
            self._header = marked(self._header, rule.argument)
            return None
        if rule.target in _ENDS:
            if rule.target == "DNAT":
                self._translate(rule)
            return rule.target
        if rule.target and not self._tracer.has_chain(table, rule.target):
            raise ValueError(f"table {table} has no chain {rule.target} to jump to: {rule.text}")
        return self._chain(table, rule.target, depth + 1) if rule.target else None

    def _translate(self, rule: Rule) -> None:
        """`DNAT --to-destination 10.0.0.1:80` or `[fd00::1]:80`."""
        option, text = rule.argument.split()
        address, _, port = text.rpartition(":")
        if option != "--to-destination":
            raise ValueError(f"DNAT option {option} is not known: {rule.text}")
        self._target = ipaddress.ip_address(address.strip("[]")).packed, int(port)
        self._header = self._header._replace(
            destination=self._target[0],
            port=self._target[1],
            destination_local=self._tracer.is_local(self._target[0]),
            translated=True,
        )

    def _seen(self, name: str, address: bytes, seconds: int | None) -> bool:
        """Whether a list recorded a client within the given seconds; None records it now."""
        if seconds is None:
            self.noted[name, address] = self._tracer.now
            return True
        before = self._tracer.last_seen(name, address)
        return before is not None and self._tracer.now - before <= seconds


def tracer(family: int, local_addresses: frozenset[bytes]) -> IptablesTracer:
    """A tracer, initially without rules."""
    return IptablesTracer(family, local_addresses)
