"""Checks whether a change is in effect: a few packets to the changed destinations, up to the first wrong result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from harness.external.history import FAMILIES, Entry
from harness.judge.oracle import Oracle
from harness.judge.oracle.modes import TRAITS
from harness.judge.oracle.scene import scene
from harness.judge.oracle.settings import packed
from harness.judge.packets.attempts import Attempt, Attempts
from harness.judge.packets.questions import HAIRPIN, Asking, Question
from harness.judge.packets.verdicts import never_chosen, wrong
from harness.places.world import MASQUERADE_ADDRESSES, World

COVER, MOST_COVERED = 12, 20
"""Connections per endpoint to see all n of them (one is missed with probability n * exp(-12)), and the largest n: more
endpoints are not checked individually."""
AT_A_TIME = 60
MOST_QUESTIONS = 12


class PacketProbe:
    """Sends packets through the node of a World."""

    def __init__(self, world: World, mode: str) -> None:
        self._world, self._mode = world, mode
        self.attempts = Attempts(world, ports_apart=TRAITS[mode].by_ip_vs)
        self._own = set(map(packed, MASQUERADE_ADDRESSES))

    def place(self, oracle: Oracle) -> None:
        """Add the node's addresses, and routes to its pods."""
        for family in FAMILIES:
            at = scene(oracle, family)
            self._own |= set(at.node)
            self._world.add_addresses(list(at.node))
            self._world.route_to_pods([address for address in at.here if address not in self._own])

    def about(self, oracle: Oracle, keys: dict[int, set[Entry]], most: int = MOST_QUESTIONS) -> list[Question]:
        """Questions about the given destinations and node ports of each family, clients of each kind in turn."""
        found: dict[str, list[Question]] = {}
        for family, wanted in keys.items():
            asking = Asking(oracle, family, self._mode, scene(oracle, family), self._world.own_address(family))
            for question in self._of(asking, wanted):
                found.setdefault(question.who, []).append(question)
        in_turn = (question for layer in zip_longest(*found.values()) for question in layer if question)
        return [question for question, _ in zip(in_turn, range(most), strict=False)]

    @staticmethod
    def _of(asking: Asking, wanted: set[Entry]) -> Iterator[Question]:
        yield from asking.about(wanted)
        gone = [key for key in wanted if len(key) == 3 and key not in asking.behaviour.destinations]
        yield from asking.about_gone(gone)

    def wrong(self, questions: Iterable[Question]) -> str | None:
        """The first wrong result, or None."""
        questions = list(questions)
        self._world.forget()
        self._route(questions)
        for question in questions:
            sent = self._send(question, 2 if question.affinity else 1)
            if line := wrong(question, sent, self._own):
                return line
        for question in questions:
            if line := self._cover(question):
                return line
        return None

    def _cover(self, question: Question) -> str | None:
        """An error if one of the endpoints is never chosen, or anything else is."""
        fate = question.fate
        if fate.kind != "dnat" or question.affinity or question.who == HAIRPIN:
            return None
        left = COVER * min(len(fate.endpoints), MOST_COVERED)
        sent: list[Attempt] = []
        while left > 0:
            some = self._send(question, min(left, AT_A_TIME))
            if line := wrong(question, some, self._own):
                return line
            sent, left = sent + some, left - len(some)
        counts = Counter(attempt.target for attempt in sent)
        return never_chosen(question, counts, len(sent)) if len(fate.endpoints) <= MOST_COVERED else None

    def _route(self, questions: Iterable[Question]) -> None:
        pods = {q.packet.source for q in questions if q.origin == "pod-local"}
        self._world.route_to_pods(sorted(pods - self._own))

    def _send(self, question: Question, count: int) -> list[Attempt]:
        sent = [self.attempts.send(question.packet, question.origin) for _ in range(count)]
        silent = question.fate.kind == "drop"
        self.attempts.watch(sent, lambda attempt: silent)
        return sent
