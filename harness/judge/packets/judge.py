"""Sends real packets through a programmed node, from all kinds of clients to all kinds of destinations.

    oracle -> questions -> attempts (packets sent and seen) -> verdicts (lines)

After the first sync and at the end, all destinations are checked (in a large cluster, a sample by kind); in between,
those that changed.  Established connections are checked every time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOL_NAMES, Destination, Key, Target
from harness.judge.oracle import Oracle
from harness.judge.oracle.modes import TRAITS
from harness.judge.oracle.scene import FamilyAddresses, Name, scene
from harness.judge.oracle.settings import packed
from harness.judge.packets import spread
from harness.judge.packets.attempts import Attempt, Attempts
from harness.judge.packets.questions import HAIRPIN, HERE, LARGEST, NODE_PORT, STRANGER, Asking, Question
from harness.judge.packets.standing import Standing
from harness.judge.packets.verdicts import never_chosen, uneven, wrong
from harness.places.world import MASQUERADE_ADDRESSES, World

AT_A_TIME = 64
"""Packets in flight: a socket buffers some hundreds."""
COVER = 20
"""Connections per endpoint to reach each of n: the probability of missing one is n * exp(-20)."""
CLIENTS = 40
"""Clients of a Service with session affinity: all reach the same of two endpoints with probability 2 ** -39."""
MOST_STEADY = 6
"""Destinations probed during syncs, in turn."""
ENOUGH = 20
"""Differences after which checking stops: if a node drops everything, every packet costs a timeout."""
_SCTP, _SCTP_SYSCTL = 132, "net.netfilter.nf_conntrack_sctp_timeout_established"


class SampleLimits(NamedTuple):
    """Limits per family and check: destinations, connections that look for every endpoint, and destinations whose
    distribution is tested.  Beyond these, a sample is checked.
    """

    destinations: int = 300
    covered: int = 6000
    tested: int = 8


FULL, EMULATED = SampleLimits(), SampleLimits(40, 400, 1)
"""In an emulated machine a packet takes milliseconds, not microseconds."""


@dataclass
class Found:
    """Differences as text, numbers of packets sent by kind, and what was not checked."""

    differences: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    unchecked: dict[str, None] = field(default_factory=dict)

    @property
    def enough(self) -> bool:
        """Whether there are enough differences to stop."""
        return len(self.differences) >= ENOUGH


class PacketJudge:
    """Judges the node of one World in one mode, repeatedly while it is programmed.

    Other senders in the same World must share `attempts`: no client port may be used twice.
    """

    def __init__(
        self,
        world: World,
        mode: str,
        families: Iterable[int] = (4, 6),
        limits: SampleLimits = FULL,
        attempts: Attempts | None = None,
    ) -> None:
        self._world, self._mode, self._limits = world, mode, limits
        self._attempts = attempts or Attempts(world, ports_apart=TRAITS[mode].by_ip_vs)
        self._standing = {family: Standing(self._attempts, family, mode) for family in families}
        self._known: dict[int, dict[Key, Destination]] = {}
        self._owners: dict[int, dict[Name, frozenset[bytes]]] = {}
        self._placed: set[tuple[str, bytes]] = set()
        self._answering: dict[int, list[Question]] = {}
        self._turn = self._clients = 0
        self._attempts.prepare()
        has_sctp = world.node.run(["sysctl", "-n", _SCTP_SYSCTL]).returncode == 0
        self._protocols = frozenset(PROTOCOL_NAMES) if has_sctp else frozenset(PROTOCOL_NAMES) - {_SCTP}

    def steady(self, other_than: Iterable[Name]) -> list[Question]:
        """A few destinations that answered and belong to no Service given since: they must always answer."""
        names = list(other_than)
        found: dict[tuple[object, ...], Question] = {}
        for family, questions in self._answering.items():
            touched = frozenset().union(*(self._owners.get(family, {}).get(name, ()) for name in names))
            questions[:] = [question for question in questions if question.packet.destination not in touched]
            for question in questions:
                found.setdefault((family, question.what, question.packet.protocol), question)
        return list(found.values())[:MOST_STEADY]

    def everything(self, oracle: Oracle, thorough: bool, names: Iterable[Name] = (), syncs: int = 1) -> Found:
        """Check every destination, or a sample; `thorough`: also distribution and session affinity.

        The Services in `names` changed during the last `syncs` syncs.
        """
        names = list(names)
        self._world.forget()
        found = Found()
        self._say_what_is_left(found)
        for family, standing in self._standing.items():
            at = scene(oracle, family)
            asking = self._asking(oracle, family, at)
            touched = frozenset().union(*(at.owners.get(name, ()) for name in names)) if syncs > 1 else frozenset()
            questions = asking.questions(self._protocols, self._limits.destinations, self._turn)
            self._note_sample(asking, questions, family, found)
            self._place(family, asking, questions)
            self._ask(questions, found)
            self._answering[family] = [q for q in questions if _steady(q, at)]
            if thorough and not found.enough:
                self._spread(asking, questions, found)
            first = family not in self._known
            self._follow(oracle, asking, standing, found, touched)
            if first and not found.enough:
                standing.open(questions)
            self._known[family] = asking.behaviour.destinations
        self._turn += 1
        return found

    def changed(self, oracle: Oracle, names: Iterable[Name], syncs: int = 1) -> Found:
        """Check the current and previous addresses of Services that changed during the last `syncs` syncs."""
        found, names = Found(), list(names)
        self._world.forget()
        for family, standing in self._standing.items():
            at = scene(oracle, family)
            before, self._owners[family] = self._owners.get(family, {}), at.owners
            only = frozenset().union(*(owners.get(name, ()) for name in names for owners in (before, at.owners)))
            asking = self._asking(oracle, family, at)
            now = asking.behaviour.destinations
            gone = [key for key in self._known.get(family, ()) if key[0] in only and key not in now]
            questions = asking.questions(self._protocols, self._limits.destinations, only=only)
            questions += asking.about_gone(key for key in gone if key[1] in self._protocols)
            self._known[family] = now
            self._place(family, asking, questions)
            self._ask(questions, found)
            kept = [q for q in self._answering.get(family, ()) if q.packet.destination not in only]
            self._answering[family] = kept + [q for q in questions if _steady(q, at)]
            self._follow(oracle, asking, standing, found, only if syncs > 1 else frozenset())
            if not found.enough:
                standing.renew(questions)
        return found

    def _asking(self, oracle: Oracle, family: int, at: FamilyAddresses) -> Asking:
        self._owners.setdefault(family, at.owners)
        return Asking(oracle, family, self._mode, at, self._world.own_address(family))

    def _place(self, family: int, asking: Asking, questions: list[Question]) -> None:
        """Configure the node's addresses, and routes to its pods."""
        mine = set(asking.scene.node)
        pods = {q.packet.source for q in questions if q.origin == "pod-local"} | set(asking.scene.here)
        wanted = {("node", a) for a in mine} | {("pod", a) for a in pods - mine}
        new = sorted(wanted - self._placed)
        self._placed.update(new)
        self._world.add_addresses([address for what, address in new if what == "node"])
        self._world.route_to_pods([address for what, address in new if what == "pod"])

    @property
    def _own(self) -> set[bytes]:
        return {address for what, address in self._placed if what == "node"} | set(map(packed, MASQUERADE_ADDRESSES))

    def _ask(self, questions: list[Question], found: Found) -> None:
        """Open a few connections per question."""
        batch: list[tuple[Question, list[Attempt]]] = []
        count = 0
        for question in questions:
            number = _effort(question)
            if count + number > AT_A_TIME:
                self._settle(batch, found)
                batch, count = [], 0
            if found.enough:
                return
            batch.append((question, [self._send(question, found) for _ in range(number)]))
            count += number
        self._settle(batch, found)

    def _send(self, question: Question, found: Found) -> Attempt:
        found.sent[f"{question.what} from {question.who}"] += 1
        return self._attempts.send(question.packet, question.origin)

    def _settle(self, batch: list[tuple[Question, list[Attempt]]], found: Found) -> None:
        silent = {each.number for question, attempts in batch if question.fate.kind == "drop" for each in attempts}
        self._attempts.watch((a for _, attempts in batch for a in attempts), lambda each: each.number in silent)
        lines = (wrong(question, attempts, self._own) for question, attempts in batch)
        found.differences += [line for line in lines if line]

    def _follow(
        self, oracle: Oracle, asking: Asking, standing: Standing, found: Found, unsure: frozenset[bytes]
    ) -> None:
        before = standing.followed
        found.differences += standing.follow(oracle, asking, unsure)
        found.sent["established connections"] += standing.followed - before

    def _spread(self, asking: Asking, questions: list[Question], found: Found) -> None:
        """Check that every endpoint is chosen, that the distribution is even, and session affinity."""
        several = [q for q in questions if q.fate.kind == "dnat" and len(q.fate.endpoints) > 1]
        once = {(q.packet.destination, q.packet.protocol, q.packet.port): q for q in several if q.who == STRANGER}
        once |= {(q.packet.destination, q.packet.protocol, q.packet.port): q for q in several if q.who == HERE}
        chosen = sorted(once.values(), key=lambda q: len(q.fate.endpoints))
        tested, covered = 0, 0
        sizes: set[tuple[int, int]] = set()
        for question in chosen:
            count, kind = len(question.fate.endpoints), (len(question.fate.endpoints), question.packet.protocol)
            if found.enough:
                return
            if question.affinity:
                self._stick(asking, question, found)
            elif tested < self._limits.tested and kind not in sizes:
                tested += 1
                sizes.add(kind)
                self._test(question, found)
            elif covered + COVER * count <= self._limits.covered:
                covered += COVER * count
                self._cover(question, COVER * count, found)
            else:
                found.unchecked["by packets: that each endpoint of every destination is chosen, beyond a sample"] = None

    def _draw(self, question: Question, connections: int, found: Found) -> Counter[Target] | None:
        """How many connections each endpoint got; None if one failed."""
        counts: Counter[Target] = Counter()
        for start in range(0, connections, AT_A_TIME):
            some = [self._send(question, found) for _ in range(min(AT_A_TIME, connections - start))]
            self._attempts.watch(some)
            line = wrong(question, some, self._own)
            if line:
                found.differences.append(line)
                return None
            counts.update(attempt.target for attempt in some)
        return counts

    def _cover(self, question: Question, connections: int, found: Found) -> None:
        counts = self._draw(question, connections, found)
        line = never_chosen(question, counts, connections) if counts is not None else None
        found.differences += [line] if line else []

    def _test(self, question: Question, found: Found) -> None:
        endpoints, chance = question.fate.endpoints, 0.0
        for _ in range(2):
            counts = self._draw(question, spread.draws(len(endpoints)), found)
            if counts is None:
                return
            chance = spread.chance([counts[end] for end in endpoints])
            if chance >= spread.FALSE_ALARM:
                return
            line = never_chosen(question, counts, counts.total()) or uneven(question, counts, chance)
        found.differences.append(line)

    def _stick(self, asking: Asking, question: Question, found: Found) -> None:
        """Connect many clients twice: each must keep its endpoint, but not all the same one."""
        numbers = range(self._clients + 1, self._clients + 1 + CLIENTS)
        self._clients += CLIENTS
        clients = [asking.as_stranger(question, number) for number in numbers]
        if len(clients[0].fate.endpoints) < 2:
            return
        first: dict[bytes, Attempt] = {}
        for _ in range(2):
            some = [(client, self._send(client, found)) for client in clients]
            self._settle([(client, [attempt]) for client, attempt in some], found)
            for client, attempt in some if not found.differences else ():
                before = first.setdefault(client.packet.source, attempt)
                line = wrong(client, [before, attempt], self._own)
                found.differences += [line] if line else []
        if not found.differences and len({attempt.target for attempt in first.values()}) == 1:
            found.differences.append(
                f"{question}: all {CLIENTS} clients reached the same of {len(clients[0].fate.endpoints)} endpoints"
            )

    def _say_what_is_left(self, found: Found) -> None:
        if _SCTP not in self._protocols:
            found.unchecked["by packets: SCTP, which this kernel does not track"] = None
        found.unchecked["by packets: that session affinity ends after its timeout"] = None

    @staticmethod
    def _note_sample(asking: Asking, questions: list[Question], family: int, found: Found) -> None:
        asked = {(q.packet.destination, q.packet.protocol, q.packet.port) for q in questions}
        if asking.left_out(asked):
            found.unchecked[f"by packets: all IPv{family} destinations; a sample by kind was checked"] = None
        if asking.has_large():
            found.unchecked[f"by packets: destinations with more than {LARGEST} endpoints"] = None


def _steady(question: Question, at: FamilyAddresses) -> bool:
    """Whether it is a local pod's connection through a Service address to endpoints in pods."""
    fate = question.fate
    beyond = fate.kind == "dnat" and not any(address in at.node for address, _ in fate.endpoints)
    return beyond and question.who == HERE and question.what != NODE_PORT and not question.affinity


def _effort(question: Question) -> int:
    """Connections per question: for hairpin, enough to reach the client itself; otherwise two."""
    if question.who == HAIRPIN and question.fate.hairpins:
        return min(4 * len(question.fate.endpoints), 40)
    return 2 if question.fate.kind == "dnat" else 1
