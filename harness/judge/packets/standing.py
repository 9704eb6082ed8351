"""Established connections while rules change: TCP keeps its endpoint, UDP as long as the endpoint serves.

Each keeps its client port, and sends another packet at every check.  New UDP flows are opened to destinations
that change, since most changes affect destinations that had no flow at first.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from harness.judge.oracle import Oracle
from harness.judge.oracle.modes import TRAITS
from harness.judge.oracle.packets import Fate, fate
from harness.judge.oracle.scene import Serving, serving
from harness.judge.packets.attempts import Attempt, Attempts
from harness.judge.packets.questions import HERE, STRANGER, Asking, Question
from harness.judge.packets.verdicts import place

TCP, UDP = 6, 17
MOST = {TCP: 12, UDP: 48}
"""Established connections per family."""
COPIES = {TCP: 1, UDP: 4}
"""Several UDP flows per destination: one that was cut by mistake may reach the same endpoint by chance, and each of
a few endpoints should have one."""
CHANGED, CHANGED_COPIES = 48, 2
"""UDP flows to destinations that changed, per family; the oldest are replaced by new ones."""
IDLE_SECONDS = {TCP: 50.0, UDP: 25.0}
"""Connection tracking forgets a UDP flow after 30 s, an unacknowledged one of TCP after 60 s: one that was idle
for nearly as long is not judged."""


@dataclass
class _Flow:
    question: Question
    first: Attempt
    target: tuple[bytes, int]
    sent_at: float


class Standing:
    """The connections of one family."""

    def __init__(self, attempts: Attempts, family: int, mode: str) -> None:
        self._attempts, self._family, self._mode = attempts, family, mode
        self._flows: list[_Flow] = []
        self._to_changed: list[_Flow] = []
        self.followed = 0

    def open(self, questions: Sequence[Question]) -> None:
        """Open connections for some of the questions; failed ones are reported by other checks."""
        for protocol, most in MOST.items():
            fit = [q for q in questions if q.packet.protocol == protocol and _fits(q)]
            # Prefer several endpoints: these reveal a connection that was established again.
            several = [q for q in fit if len(q.fate.endpoints) > 1]
            chosen = [*in_turn(several), *in_turn([q for q in fit if q not in several])]
            self._flows += self._begun([q for q in chosen for _ in range(COPIES[protocol])][:most])

    def renew(self, questions: Sequence[Question]) -> None:
        """Open UDP flows to destinations that have just changed: they may change again."""
        fit = in_turn([q for q in questions if q.packet.protocol == UDP and _fits(q)])
        self._to_changed += self._begun([q for q in fit for _ in range(CHANGED_COPIES)][:CHANGED])
        del self._to_changed[:-CHANGED]

    def _begun(self, questions: Sequence[Question]) -> list[_Flow]:
        """A connection for each question, without those that failed."""
        sent = [(question, self._attempts.send(question.packet, question.origin)) for question in questions]
        self._attempts.watch(first for _, first in sent)
        now = time.monotonic()
        return [
            _Flow(question, first, first.target, now)
            for question, first in sent
            if first.kind == "dnat" and first.arrivals[-1].place
        ]

    def follow(self, oracle: Oracle, asking: Asking, unsure: Container[bytes] = ()) -> list[str]:
        """Send a packet on each connection and report those that did not go where they should, which are dropped.

        `unsure` addresses changed without being checked: a flow may have moved for a reason that no longer exists.
        """
        found: list[str] = []
        for flows in (self._flows, self._to_changed):
            flows[:] = self._followed(flows, oracle, asking, unsure, found)
        return found

    def _followed(
        self, flows: list[_Flow], oracle: Oracle, asking: Asking, unsure: Container[bytes], found: list[str]
    ) -> list[_Flow]:
        """The connections to keep; differences are added to `found`."""
        kept = []
        sent = [(flow, self._attempts.follow(flow.first)) for flow in flows]
        fates = {each.number: fate(oracle, each.packet, self._mode, asking.behaviour) for _, each in sent}
        self._attempts.watch(
            (each for _, each in sent),
            lambda each: each.packet.protocol != TCP and fates[each.number].kind != "dnat",
        )
        now = time.monotonic()
        for flow, again in sent:
            late = now - flow.sent_at > IDLE_SECONDS[flow.question.packet.protocol]
            moved = flow.question.packet.destination in unsure
            line = None if late else self._wrong(flow, again, fates[again.number], oracle, moved)
            self.followed += not late
            if line:
                found.append(f"{flow.question}: {line}")
            elif again.kind == "dnat" and again.target in (flow.target, *flow.question.fate.endpoints):
                flow.target, flow.sent_at = again.target, now
                kept.append(flow)
        return kept

    def _wrong(self, flow: _Flow, again: Attempt, now: Fate, oracle: Oracle, unsure: bool) -> str | None:
        packet = flow.question.packet
        stayed = again.kind == "dnat" and again.target == flow.target
        went = f"went to {place(again.target)}" if again.kind == "dnat" else "was cut"
        if packet.protocol == TCP:
            # IP_VS drops connections whose destination is gone.
            if stayed or (TRAITS[self._mode].by_ip_vs and flow.target not in now.endpoints):
                return None
            return f"an established connection to {place(flow.target)} {went}"
        if stayed and flow.target in now.endpoints:
            return None
        known = serving(oracle, self._family, (packet.destination, packet.protocol, packet.port))
        if known is None:
            gone = stayed and now.kind != "dnat"
            return f"a flow of UDP still goes to {place(flow.target)}, though no Service leads there" if gone else None
        if not (stayed or unsure) and self._keeps(flow.target, known, now):
            return f"a flow of UDP to {place(flow.target)}, which serves, {went}"
        if flow.target not in known.possible and stayed:
            return f"a flow of UDP still goes to {place(flow.target)}, which serves no more"
        return None

    def _keeps(self, target: tuple[bytes, int], known: Serving, now: Fate) -> bool:
        """Whether a flow must stay at its endpoint: it is ready and may be chosen, or it drains."""
        if target in known.draining:
            return not TRAITS[self._mode].by_ip_vs
        return target in known.ready and target in now.endpoints


def in_turn(questions: Sequence[Question]) -> list[Question]:
    """One of each kind of destination and client, then another of each, until there are no more."""
    kinds: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        kinds.setdefault((question.what, question.who), []).append(question)
    return [question for layer in zip_longest(*kinds.values()) for question in layer if question]


def _fits(question: Question) -> bool:
    return question.fate.kind == "dnat" and question.who in (HERE, STRANGER) and not question.affinity
