"""Measures one proxy with one recording: time to the first correct state, latency of each change, and correctness.

Changes are given to the API in the batches that a replay would form by the recording's clock, each after the previous
one is complete, so that a proxy never has more to do at once than the engine in process.  A change is timed from when
the API has it until the last change of the kernel's rules before packets behave as expected.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.apiserver.pace import fold
from harness.external.changes import Keys, observe
from harness.external.history import Entry, ExpectedHistory, behaviours
from harness.external.probing import PacketProbe
from harness.external.proxy_metrics import own_metrics
from harness.external.size import Size, size
from harness.external.stage import Ended, ProxyEnvironment
from harness.judge.packets.judge import PacketJudge
from harness.judge.packets.questions import Question
from harness.log.events import OBJECT_TYPES, Event
from harness.places import vm
from harness.replay.compare.result import OwnMetrics
from harness.replay.latencies import Latencies
from harness.replay.schedule import Batch
from harness.replay.session import kind_of

UNHEARD_SECONDS, SILENT_SECONDS = 0.25, 0.02
"""How long to wait for a notification before sending packets: where the kernel sends notifications, and where not."""
MOST_MISSED = 3
"""Missed batches after which the run ends, as each takes the full timeout."""
CHANGE_SHARE = 0.1
"""The timeout of a change, as a share of the first sync's."""
QUIET_SECONDS = 0.5
SETTLED_SECONDS = 2.0
"""Without a change of the rules for so long, a proxy that was started again is done."""
FIRST_QUESTIONS = 24


@dataclass
class Figures:
    """The measurements; `state` is empty while everything is correct.

    `not_counted` are events that change nothing, `unseen` counts changes that no packet can reveal, `unsettled` those
    whose latency is unknown, `missed_count` those of the batches in `missed`.  `batches` has for each timed batch the
    number of its first event, and its latency.  `size` is what the first sync has programmed, `again` the seconds of
    each further start over existing rules, None if that changed nothing, and its CPU seconds.
    """

    state: str = ""
    reason: str = ""
    first_seconds: float | None = None
    latency: Latencies = field(default_factory=Latencies)
    by_kind: dict[str, Latencies] = field(default_factory=dict)
    clocks: Counter[str] = field(default_factory=Counter)
    not_counted: int = 0
    unseen: int = 0
    unsettled: int = 0
    missed_count: int = 0
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    packets: Counter[str] = field(default_factory=Counter)
    cpu: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    own: OwnMetrics | None = None
    batches: list[tuple[int, float]] = field(default_factory=list)
    size: Size | None = None
    again: list[tuple[float | None, float]] = field(default_factory=list)


class Measurement:
    """For one run in a Stage whose proxy is not started yet; `history` has processed the initial list."""

    def __init__(
        self,
        stage: ProxyEnvironment,
        history: ExpectedHistory,
        give_up_seconds: float,
        progress: Callable[[str], None] = lambda _: None,
        restarts: int = 0,
    ) -> None:
        self._stage, self._history, self._progress, self._restarts = stage, history, progress, restarts
        self._give_up = give_up_seconds * vm.patience()
        self.figures = Figures()
        self._probe = PacketProbe(stage.world, stage.mode)
        self._judge = PacketJudge(stage.world, stage.mode, attempts=self._probe.attempts)
        self._probe.place(history.whole)
        self._touched: set[tuple[str, str]] = set()
        self._spent = 0.0
        self._judging_seconds, self._since_judged, self._started = 0.0, 0, time.monotonic()

    def run(self, batches: Iterator[Batch]) -> Figures:
        """Run all of it, or until the proxy fails."""
        figures, questions = self.figures, self._sample()  # before the start, as this takes CPU time
        began = self._stage.start()
        try:
            self._first(began, questions)
            if figures.first_seconds is not None:
                self._progress(f"changes of {self._stage.command.name}")
                for batch in batches:
                    self._batch(batch)
                    if len(figures.missed) >= MOST_MISSED:
                        break
                for _ in range(self._restarts):
                    figures.again.append(self._restart())
                self._last()
        except Ended as error:
            figures.state, figures.reason = "crashed", str(error)
        self._account(began)
        return figures

    def _first(self, began: float, questions: list[Question]) -> None:
        self._progress(f"waiting for the first sync of {self._stage.command.name}")
        until = began + self._give_up
        at, line = self._converged(questions, began, until)
        if at is None:
            times = self._stage.moments.times
            settled = times and time.monotonic() - times[-1] > self._give_up * CHANGE_SHARE
            self.figures.state, self.figures.reason = "wrong" if settled else "never converged", line
            return
        self._everything(until, thorough=False)
        self.figures.first_seconds = at - began
        self.figures.size = size(self._stage.world.node.socket, self._stage.world.node.run)
        self.figures.cpu["first_sync"] = self._stage.usage.cpu_seconds() if self._stage.usage else 0.0

    def _sample(self) -> list[Question]:
        """A sample of all kinds, evenly spread, including the last destination."""
        chosen: dict[int, set[Entry]] = {}
        for family, behaviour in behaviours(self._history.whole, self._stage.mode).items():
            chosen[family] = {
                *_spread(sorted(behaviour.destinations, reverse=True)),
                *_spread(sorted(behaviour.nodeports, reverse=True)),
            }
        return self._probe.about(self._history.whole, chosen, FIRST_QUESTIONS)

    def _converged(self, questions: list[Question], since: float, until: float) -> tuple[float | None, str]:
        """The time at which packets became correct, or None with the first error."""
        moments = self._stage.moments
        while True:
            self._stage.check()
            started = time.monotonic()
            line = self._probe.wrong(questions)
            if line is None:
                # Up to now, not to the start of the probe: notifications may be late, and an understated time is worse.
                at = moments.last(since, time.monotonic())
                self.figures.clocks["kernel" if at else "packets"] += 1
                return at or started, ""
            if time.monotonic() > until:
                return None, line
            took = time.monotonic() - started
            moments.wait(max(self._patience, took))

    def _batch(self, batch: Batch) -> None:
        figures = self.figures
        change = observe(self._history, batch.events, self._stage.mode)
        questions = self._probe.about(change.part, change.keys)
        seen = bool(questions and self._probe.wrong(questions))
        applied = self._apply(batch.events)
        counted = [each for each in applied if each[0].seq in change.counted]
        figures.not_counted += len(applied) - len(counted)
        if not seen:
            figures.unseen += len(counted)
            return
        self._touched |= change.names or set()
        self._since_judged += 1
        self._stage.moments.wait(self._patience)
        at, _ = self._converged(questions, applied[0][1], time.monotonic() + self._give_up * CHANGE_SHARE)
        if at is None:
            self._late(change.keys, len(counted))
            return
        figures.batches.append((batch.events[0].seq, max(0.0, at - applied[0][1])))
        for event, given in counted:
            seconds = max(0.0, at - given)
            figures.latency.record(seconds)
            figures.by_kind.setdefault(kind_of(event), Latencies()).record(seconds)
        self._judge_now_and_then()

    def _restart(self) -> tuple[float | None, float]:
        """Seconds from a further start until the rules no longer change, None if they do not at all; CPU seconds."""
        self._progress(f"starting {self._stage.command.name} over its rules")
        moments = self._stage.moments
        self._spend()
        self._stage.stop()
        began = self._stage.start()
        moments.wait(self._give_up * CHANGE_SHARE)
        while moments.wait(SETTLED_SECONDS) and time.monotonic() < began + self._give_up:
            self._stage.check()
        at = moments.last(began, time.monotonic())
        return None if at is None else at - began, self._stage.usage.cpu_seconds() if self._stage.usage else 0.0

    def _spend(self) -> None:
        """Add the process that runs now to the figures of all of them."""
        if usage := self._stage.usage:
            self._spent += usage.cpu_seconds()
            self.figures.peak_bytes = max(self.figures.peak_bytes, usage.peak_bytes())

    @property
    def _patience(self) -> float:
        return UNHEARD_SECONDS if self._stage.moments.times else SILENT_SECONDS

    def _late(self, keys: Keys, count: int) -> None:
        """Repeat the check with the whole cluster, as several Services may claim one address."""
        line = self._probe.wrong(self._probe.about(self._history.whole, keys))
        if line:
            self.figures.missed.append(line)
            self.figures.missed_count += count
        else:
            self.figures.unsettled += count

    def _apply(self, events: list[Event]) -> list[tuple[Event, float]]:
        """Apply a batch to the API; returns each object's event with the time at which the API had it."""
        applied = []
        for event in events:
            given = time.monotonic()  # before: watchers may be served before this thread runs again
            fold(self._stage.api.store, event)
            if event.type in OBJECT_TYPES and event.resource != "pods":
                applied.append((event, given))
        return applied

    def _judge_now_and_then(self) -> None:
        """Judge everything that changed since the last time, using at most half of the time."""
        if self._judging_seconds > self._since_start / 2 + 5:
            return
        began = time.monotonic()
        found = self._judge.changed(self._history.whole, self._touched, self._since_judged)
        self.figures.packets.update(found.sent)
        self.figures.wrong += found.differences
        self._touched.clear()
        self._since_judged = 0
        self._judging_seconds += time.monotonic() - began

    @property
    def _since_start(self) -> float:
        return time.monotonic() - self._started

    def _everything(self, until: float, thorough: bool) -> None:
        """Judge everything, again if something is wrong while the rules are still changing."""
        while True:
            self._stage.check()
            found = self._judge.everything(self._history.whole, thorough, self._touched, self._since_judged)
            moving = self._stage.moments.wait(QUIET_SECONDS)
            if not found.differences or not moving or time.monotonic() > until:
                break
        self._touched.clear()
        self._since_judged = 0
        self._started = time.monotonic()
        self.figures.packets.update(found.sent)
        self.figures.wrong += found.differences

    def _last(self) -> None:
        self._progress(f"judging {self._stage.command.name} at the end")
        self._everything(time.monotonic() + self._give_up * CHANGE_SHARE, thorough=True)

    def _account(self, began: float) -> None:
        figures = self.figures
        self._spend()
        part = "changes" if "first_sync" in figures.cpu else "first_sync"
        figures.cpu[part] = self._spent - figures.cpu.get("first_sync", 0.0)
        if self._stage.running:
            figures.own = own_metrics(self._stage.metrics())
        if not figures.state and (figures.wrong or figures.missed):
            figures.state = "wrong"
            figures.reason = (figures.wrong or figures.missed)[0]


def _spread(ordered: Sequence[Entry]) -> Sequence[Entry]:
    """The first entry, and others at equal distances."""
    return ordered[:: max(1, len(ordered) // FIRST_QUESTIONS)][:FIRST_QUESTIONS]
