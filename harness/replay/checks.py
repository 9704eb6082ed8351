"""When and how a replay verifies kernel state against the oracle, outside measured time, and the results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Set
from enum import Enum
from functools import partial

from engine.addresses import format_network
from engine.model import Name
from engine.proxier import Proxier
from harness.judge.oracle import Oracle, Settings
from harness.judge.packets.judge import EMULATED, ENOUGH, FULL, PacketJudge
from harness.judge.packets.questions import Question
from harness.judge.verify import IncrementalView, ReadAheadView
from harness.log.events import Event
from harness.places.place import Place
from harness.replay.kernels import ReplayTarget
from harness.replay.result import Verdict, Verification
from harness.replay.tally import ReplayTally
from harness.replay.verify import check_kernel, connections

WAYS = {"full": ("readback", "packets"), "readback": ("readback",), "packets": ("packets",), "none": ()}
"""Ways of checking, by the value of --verify."""
SPARSE, AT_FIRST_SECONDS, A_BATCH_SECONDS, AT_LEAST_SECONDS, OF_MANY_SECONDS = 500, 1.0, 0.05, 10.0, 3.0
"""Maximum number of batches between checks; then the time always available to each way of checking, however short the
replay: at the start, per batch, in total, and in total with MANY.  So a small recording is checked throughout."""
MANY = 5_000
"""Number of service ports from which checks get less time; otherwise they would take longer than the replay itself."""


class CheckTime(Enum):
    """The time of a check: after the initial sync, after a batch of the churn, or at the end."""

    FIRST, BETWEEN, LAST = range(3)


class Checks:
    """All checks of a run; `asked` is a key of WAYS, `every` the batches between checks (None: by time)."""

    def __init__(
        self, proxier: Proxier, mode: str, target: ReplayTarget, tally: ReplayTally, asked: str, every: int | None
    ) -> None:
        self._proxier, self._mode, self._target, self._tally = proxier, mode, target, tally
        self._asked, self._every = asked, every
        self.ways = WAYS[asked]
        self._unseen: list[Event] = []
        self._oracle: Oracle | None = None
        self._started = time.perf_counter()
        self._spent: dict[str, float] = {way: 0.0 for way in WAYS[asked]}
        self._checking = 0.0
        self._judged = self._batches = 0
        self._checked: Counter[str] = Counter()
        self._unchecked: dict[str, None] = {}
        self._packet_judge: PacketJudge | None = None
        self._touched: set[Name] = set()
        self._planned: set[Name] = set()
        self._sent: Counter[str] = Counter()
        self._packets_after = 0

    @property
    def _events_oracle(self) -> Oracle:
        """Created at the first check, when the configuration is final."""
        if self._oracle is None:
            self._oracle = Oracle(self._proxier.state.node_name, self._settings())
        return self._oracle

    def observe(self, event: Event) -> None:
        """Keep an event for the oracle."""
        if self.ways:
            self._unseen.append(event)

    def steady(self, names: Set[Name]) -> list[Question]:
        """Destinations that answered and are not affected by a sync of these Services."""
        self._touched |= names
        self._planned |= names
        if self._packet_judge is None or len(self._tally.differences) >= ENOUGH:
            return []
        return self._packet_judge.steady(names)

    def check(self, when: str, moment: CheckTime) -> None:
        """Compare kernel and oracle now; between the first and the last sync, only in the ways that are due."""
        self._batches += moment == CheckTime.BETWEEN
        ways = self._due() if moment == CheckTime.BETWEEN else set(self.ways)
        if not ways:
            return
        begun = time.perf_counter()
        if "readback" in ways and isinstance(self._target.view, ReadAheadView):
            self._target.view.read_ahead(self._proxier.dataplanes)
        for event in self._unseen:
            self._events_oracle.observe(event)
        self._unseen.clear()
        if moment == CheckTime.LAST:
            self._events_oracle.forget()
        self._judged += sum(len(dataplane.plans) for dataplane in self._proxier.dataplanes.values())
        found: list[str] = []
        for way, look in (("packets", partial(self._packets, moment)), ("readback", partial(self._read_back, moment))):
            if way in ways:
                found = look() + found
                took = time.perf_counter() - begun
                self._spent[way] += took if moment == CheckTime.BETWEEN else 0.0
                self._checking += took
                begun += took
        self._tally.checks += 1
        self._tally.differences += [f"after {when}: {line}" for line in found]

    def _read_back(self, moment: CheckTime) -> list[str]:
        """Differences from the expected state: of everything at the first and last check, else of what changed."""
        changed = frozenset(self._planned) if moment == CheckTime.BETWEEN else None
        self._planned.clear()
        if moment == CheckTime.FIRST and isinstance(self._target.view, IncrementalView):
            self._target.view.follow()
        found = check_kernel(self._proxier, self._target.view, self._events_oracle, self._mode, changed)
        self._checked.update(found.checked)
        self._unchecked.update(dict.fromkeys(found.unchecked))
        return found.differences

    def _packets(self, moment: CheckTime) -> list[str]:
        """Differences between the fates of packets and the oracle."""
        place = self._target.place
        if place is None or place.kind == "host":
            self._unchecked["by packets: everything, as they are sent only in a throwaway kernel"] = None
            return []
        if place.world is None:
            return self._connections(place) if moment != CheckTime.BETWEEN else []
        if self._packet_judge is None:
            limits = EMULATED if self._target.facts.get("machine") == "tcg" else FULL
            self._packet_judge = PacketJudge(place.world, self._mode, self._proxier.dataplanes, limits)
        judge, syncs = self._packet_judge, self._tally.syncs - self._packets_after
        self._packets_after = self._tally.syncs
        if moment == CheckTime.BETWEEN:
            found = judge.changed(self._events_oracle, self._touched, syncs)
        else:
            found = judge.everything(self._events_oracle, moment == CheckTime.LAST, self._touched, syncs)
        self._touched.clear()
        self._sent.update(found.sent)
        self._unchecked.update(found.unchecked)
        self._tally.connections += found.sent.total()
        return found.differences

    def _connections(self, place: Place) -> list[str]:
        """Check with the node's own sockets if raw packets cannot be sent."""
        expected = {family: self._events_oracle.behaviour(family, self._mode) for family in self._proxier.dataplanes}
        tried, lost = connections(place, self._events_oracle, expected)
        self._tally.connections += tried
        self._sent["connections from the node"] += tried
        self._unchecked["by packets: clients other than the node"] = None
        return lost

    def _due(self) -> set[str]:
        """The ways of checking due after this batch: each has a share of the replay's time."""
        if self._every:
            return set(self.ways) if self._batches % self._every == 0 else set()
        if self._batches % SPARSE == 0:
            return set(self.ways)
        replaying = time.perf_counter() - self._started - self._checking
        many = sum(len(dataplane.plans) for dataplane in self._proxier.dataplanes.values()) >= MANY
        share, most = (8, OF_MANY_SECONDS) if many else (2, AT_LEAST_SECONDS)
        given = replaying / share + min(AT_FIRST_SECONDS + self._batches * A_BATCH_SECONDS, most)
        return {way for way in self.ways if self._spent[way] < given}

    def _settings(self) -> Settings:
        """The configuration as the oracle's settings."""
        config = self._proxier.config
        pods, services = (
            tuple(format_network(n) for n in networks) for networks in (config.pod_networks, config.service_networks)
        )
        return Settings(cluster_cidr=",".join(pods), service_cidrs=services, version=config.version)

    def verdict(self) -> tuple[Verdict, Verification]:
        """`verified`, and the reason."""
        facts = self._target.facts
        unknown = ""
        if not self.ways:
            unknown = "it was disabled (--verify none)"
        elif facts["kind"] == "memory" and "reason" in facts:
            unknown = "no kernel held the rules"
        elif not self._judged:
            unknown = "there was nothing to verify: no Service has an address"
        wrong = bool(self._tally.differences)
        about = Verification(
            kind=self._asked,
            held_by="memory" if facts["kind"] == "memory" else "kernel",
            unknown_because="" if wrong else unknown,
            checked=dict(self._checked),
            packets=dict(self._sent),
            not_checked=list(self._unchecked),
        )
        return False if wrong else "unknown" if unknown else True, about
