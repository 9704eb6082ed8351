"""Traces one packet through tables `ip kube-proxy` and `ip6 kube-proxy`, in the kernel's order.

    forwarded:  prerouting (dnat) -> forward -> postrouting (masquerade)
    to node:    prerouting (dnat) -> input
    from node:  output (dnat) -> postrouting -> [prerouting filters -> input, if its destination is local]

If a rule draws a random number the packet follows every branch in turn; entries recorded for a client
(`update @MAP`) expire by the tracer's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.judge.packet import Outcome, Packet, Trace
from harness.judge.trace.choices import Choices, merged
from harness.judge.trace.expressions import Break, Expressions, WordCursor, find
from harness.judge.trace.ruleset import Element, Key, Ruleset, Table, duration_seconds

_TERMINAL = {"accept", "drop", "reject"}
_MATCHES = {"meta", "ct", "ip", "ip6", "th", "tcp", "udp", "sctp", "fib", "iifname", "mark", "l4proto"}


class NftablesTracer:
    """The rules of one family from text; `feed` applies the text of each following program."""

    def __init__(self, family: int, local_addresses: frozenset[bytes] = frozenset()) -> None:
        self._ip = "ip" if family == 4 else "ip6"
        self._ruleset = Ruleset()
        self._local = local_addresses
        self._clients = _Clients()

    @property
    def now(self) -> float:
        """The clock by which clients' entries expire, in seconds."""
        return self._clients.now

    @now.setter
    def now(self, seconds: float) -> None:
        self._clients.now = seconds

    def feed(self, text: str) -> None:
        """Apply input of `nft -f` or output of `nft list ruleset`; ValueError if it cannot be parsed."""
        self._ruleset.feed(text)

    def trace(self, packet: Packet) -> Trace:
        """All possible paths of the packet, without recording its client."""
        outcomes: dict[Outcome, None] = {}
        steps: dict[str, None] = {}
        choices = Choices()
        while True:
            walk = self._walk(packet, choices)
            outcomes.setdefault(walk.run())
            steps.update(dict.fromkeys(walk.steps))
            if not choices.advance():
                return Trace(merged(list(outcomes)), tuple(steps))

    def facts(self) -> dict[str, Any]:
        """Empty: in this mode cases assert only packets."""
        return {}

    def connect(self, packet: Packet, index: int = 0) -> Outcome:
        """One connection, with `index` as the result of every draw; its client is recorded."""
        walk = self._walk(packet, Choices(fixed=index))
        outcome = walk.run()
        self._clients.remember(walk.remembered)
        return outcome

    @property
    def table(self) -> Table:
        """The proxy's present table."""
        return self._ruleset.tables.get((self._ip, "kube-proxy"), Table())

    def _walk(self, packet: Packet, choices: Choices) -> _Walk:
        return _Walk(self._ip, self.table, packet, choices, self._local, self._clients)


Remembered = dict[tuple[str, Key], tuple[float, Key] | None]
"""Elements that one packet changed; None for a deleted one."""


@dataclass
class _Clients:
    """The elements recorded by rules: {(set, key): (expiry in seconds, data)}."""

    now: float = 0.0
    entries: dict[tuple[str, Key], tuple[float, Key]] = field(default_factory=dict)

    def find(self, name: str, key: Key) -> Element | None:
        """The data of an element that has not expired."""
        expires, data = self.entries.get((name, key), (0.0, ()))
        return Element("a known client", data) if expires > self.now else None

    def remember(self, changes: Remembered) -> None:
        """Apply the changes of one packet."""
        for place, entry in changes.items():
            if entry is None:
                self.entries.pop(place, None)
            else:
                self.entries[place] = entry


class _Verdict(Exception):
    """Ends the walk through a hook: accept, drop, reject or dnat."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Return(Exception):
    """Ends the walk through a chain."""


class _Walk:
    """One packet on one path through the hooks."""

    def __init__(
        self, ip: str, table: Table, packet: Packet, choices: Choices, local: frozenset[bytes], clients: _Clients
    ) -> None:
        self._ip, self._table, self._packet, self._choices = ip, table, packet, choices
        self._local, self._clients = local, clients
        self.steps: list[str] = []
        self.remembered: Remembered = {}
        self._masquerade = False
        self._target: tuple[bytes, int] | None = None
        self._note: list[str] = []
        here = packet.source_local
        self._fields = {
            f"{ip} saddr": packet.source,
            f"{ip} daddr": packet.destination,
            "meta l4proto": packet.protocol,
            "th dport": packet.port,
            "meta priority": 0,
            "meta mark": 0,
            "meta iifname": "" if here else packet.interface,
            "ct protocol": packet.protocol,
            "ct state": frozenset(("new",)),
            "ct status": frozenset(),
            "fib saddr type": "local" if here else "unicast",
            "fib daddr type": "local" if packet.destination_local else "unicast",
        }
        self._evaluate = Expressions(self._fields, choices.draw, self._look_up)

    def run(self) -> Outcome:
        """The outcome after all hooks."""
        first = "output" if self._packet.source_local else "prerouting"
        verdict = self._hooks(first)
        stays = self._fields["fib daddr type"] == "local"
        if verdict is None and first == "prerouting":
            verdict = self._hooks("input" if stays else "forward")
        if verdict is None and not (first == "prerouting" and stays):
            verdict = self._hooks("postrouting")
        if verdict is None and first == "output" and stays:
            verdict = self._hooks("prerouting", only="filter") or self._hooks("input")
        if verdict:
            return Outcome(verdict)
        if self._target is None:
            return Outcome("no-op")
        return Outcome("dnat", frozenset((self._target,)), self._masquerade)

    def _hooks(self, hook: str, only: str | None = None) -> str | None:
        """Drop or reject, if a chain of the hook does."""
        chains = sorted((p, name) for name, (kind, at, p) in self._table.hooks.items() if at == hook)
        for _, name in chains:
            kind = self._table.hooks[name][0]
            if (only and kind != only) or (kind == "nat" and hook != "postrouting" and self._target):
                continue
            try:
                self._chain(name)
            except _Verdict as verdict:
                if verdict.kind in ("drop", "reject"):
                    return verdict.kind
        return None

    def _chain(self, name: str) -> None:
        for rule in self._table.chains.get(name, ()):
            try:
                goto = self._rule(name, rule)
            except Break:
                continue
            except _Return:
                return
            if goto is not None:
                self._chain(goto)
                return

    def _rule(self, chain: str, words: list[str]) -> str | None:
        """Apply one rule; the chain it goes to, if any."""
        self._note = []
        before = dict(self._fields), self._target, len(self.remembered)
        try:
            verdict, target = self._apply(WordCursor(words))
        except (_Verdict, _Return):
            self._step(chain, words)
            raise
        if verdict or (dict(self._fields), self._target, len(self.remembered)) != before:
            self._step(chain, words)
        if verdict == "jump":
            self._chain(target)
        return target if verdict == "goto" else None

    def _apply(self, cursor: WordCursor) -> tuple[str | None, str]:
        """Apply statement by statement; returns the jump or goto, (None, "") to continue with the next rule."""
        while cursor.peek() is not None:
            if cursor.peek() in ("goto", "jump"):
                return cursor.take(), cursor.take()
            if self._statement(cursor):
                continue
            if "vmap" in cursor.words[cursor.at :]:
                key = self._evaluate.concat(cursor)
                cursor.take("vmap")
                return self._evaluate.found(cursor, key).data
            if cursor.peek() not in _MATCHES:
                raise ValueError(f"rule `{' '.join(cursor.words)}`: the tracer does not support {cursor.peek()!r}")
            self._evaluate.match(cursor)
        return None, ""

    def _statement(self, cursor: WordCursor) -> bool:
        """Apply the next statement; False if an expression follows instead."""
        word = cursor.peek()
        if word in _TERMINAL:
            raise _Verdict(cursor.take())
        if word == "return":
            raise _Return
        if word == ";":
            cursor.take()
        elif word == "counter":
            cursor.take()
            if cursor.peek() == "name":
                cursor.take("name")
                cursor.take()
        elif word in ("meta", "mark") and "set" in (cursor.peek(1), cursor.peek(2)):
            self._set(cursor)
        elif word == "dnat":
            self._dnat(cursor)
        elif word == "masquerade":
            self._masquerade = True
            raise _Verdict("accept")
        elif word in ("update", "delete"):
            self._dynamic(cursor)
        else:
            return False
        return True

    def _set(self, cursor: WordCursor) -> None:
        name = "meta mark" if cursor.take() == "mark" else f"meta {cursor.take()}"
        cursor.take("set")
        (self._fields[name],) = self._evaluate.concat(cursor)

    def _dnat(self, cursor: WordCursor) -> None:
        cursor.take()
        if cursor.peek() in ("ip", "ip6"):
            cursor.take()
        cursor.take("to")
        address, port = self._evaluate.concat(cursor)
        self._target = address, port
        self._fields[f"{self._ip} daddr"], self._fields["th dport"] = address, port
        self._fields["fib daddr type"] = "local" if address in self._local else "unicast"
        self._fields["ct status"] = frozenset(("dnat",))
        raise _Verdict("accept")

    def _dynamic(self, cursor: WordCursor) -> None:
        """`update`, which renews the timeout of an existing element and keeps its data, or `delete`."""
        verb = cursor.take("update", "delete")
        cursor.take("@")
        name = cursor.take()
        cursor.take("{")
        key = self._evaluate.concat(cursor)
        seconds = 0.0
        if cursor.peek() == "timeout":
            cursor.take()
            seconds = duration_seconds(cursor.take())
        cursor.take(":")
        data = self._evaluate.concat(cursor)
        cursor.take("}")
        if verb == "delete":
            self.remembered[name, key] = None
            return
        there = None if (name, key) in self.remembered else self._clients.find(name, key)
        self.remembered[name, key] = (self._clients.now + seconds, there.data if there else data)

    def _look_up(self, name: str, key: Key) -> Element | None:
        found = find(self._table, name, key) or self._clients.find(name, key)
        if found:
            self._note.append(f"@{name} {{ {found.text} }}")
        return found

    def _step(self, chain: str, words: list[str]) -> None:
        note = f"    {'; '.join(self._note)}" if self._note else ""
        self.steps.append(f"{chain}: {_rule_text(words)}{note}")


def _rule_text(words: list[str]) -> str:
    return " ".join(words).replace("@ ", "@").replace(" ;", ";").replace(" ,", ",")


def tracer(family: int, local_addresses: frozenset[bytes]) -> NftablesTracer:
    """A tracer, initially without rules."""
    return NftablesTracer(family, local_addresses)
