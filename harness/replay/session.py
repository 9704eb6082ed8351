"""One run: the initial list until every rule is live, then batch after batch, timing each change.

A change's convergence is measured on the recording's clock: from the event to the moment its rules were live, where a
sync starts when it is due or when the previous one has ended, whichever is later.  So a slow sync delays the next one,
and no wait is hidden, at any replay speed.  The times reported by a sync are only compared with the harness's clock.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.config import NEWEST, ProxyConfig
from engine.manifest import ManifestError
from engine.model import Network
from engine.proxier import Proxier, Sync
from harness.garbage import uncollected
from harness.judge.packets.lookout import Lookout, WatchReport
from harness.judge.packets.questions import Question
from harness.log import open_source
from harness.log.events import OBJECT_TYPES, Event, JsonObject
from harness.log.follow import Follow
from harness.log.initial import initial_part
from harness.log.node_names import NodeNames
from harness.log.window import Window
from harness.modes import mode_of
from harness.modes.mode import Notifications
from harness.replay.checks import WAYS, Checks, CheckTime
from harness.replay.config import proxy_config
from harness.replay.effects import NOTHING, SENT, Effects, service_of
from harness.replay.kernels import ReplayTarget
from harness.replay.result import EngineSettings, InitialConvergence, RecordingFacts, ReplayResult, TimelineInterval
from harness.replay.rolling import ChangeSample, Watchers
from harness.replay.schedule import Batch, batches
from harness.replay.tally import ReplayTally

NS = 1_000_000_000
ONE_TRANSACTION_BYTES = 64 << 10
"""Bytes up to which a sync must fit into one transaction."""


@dataclass(frozen=True)
class ReplayOptions:
    """The user's options; `speed` None is as fast as possible, periods are in nanoseconds."""

    mode: str = "nftables"
    min_sync_period: int = NS
    speed: float | None = None
    node: str | None = None
    pod_networks: tuple[Network, ...] | None = None
    window: Window = Window()
    verify: str = "full"
    check_every: int | None = None
    follow: Follow | None = None
    version: tuple[int, int] = NEWEST

    @property
    def packets(self) -> bool:
        """Whether verification sends packets."""
        return "packets" in WAYS[self.verify]


Progress = Callable[[str, int], None]


class ReplaySession:
    """Replays one source into one opened kernel; use once."""

    def __init__(
        self,
        source: str,
        options: ReplayOptions,
        target: ReplayTarget,
        progress: Progress,
        watchers: Watchers | None = None,
    ) -> None:
        self._source = source
        self._options = options
        self._target = target
        self._progress = progress
        self._watchers = watchers or Watchers()
        self._events = self._services = self._endpoints = 0
        self._doing = "reading the initial list, events"
        self._finished = 0.0
        self._initial_seconds: float | None = None
        self._announced = False
        """Whether the kernel announces every change of the mode's rules."""

    def first_figure(self) -> str:
        """Initial convergence, as soon as it is known: long before the checks are done."""
        return "" if self._initial_seconds is None else f"initial convergence {self._initial_seconds:.3f} s"

    def run(self) -> ReplayResult:
        """Raises RecordingError for bad input, KernelError if the kernel rejects the rules."""
        try:
            return self._run()
        finally:
            gc.unfreeze()

    def _run(self) -> ReplayResult:
        started = time.perf_counter()
        with open_source(self._source, self._options.follow) as recording:
            self._recording, self._window = recording, narrowed(self._options.window, recording.take_window())
            events = iter(recording)
            self._proxier = Proxier(
                self._options.mode,
                self._config(recording.header.cluster),
                self._target.kernel,
                time.perf_counter,
                self._options.node,
                conntrack=self._target.conntrack,
                flow_addresses=self._target.place.own_addresses if self._target.place else (),
            )
            self._tally = ReplayTally()
            self._checks = Checks(
                self._proxier,
                self._options.mode,
                self._target,
                self._tally,
                self._options.verify,
                self._options.check_every,
            )
            self._nodes = NodeNames(self._source)
            with _kept():
                rest = self._first(events, started)
            self._churn(batches(rest, events, self._window, self._options.min_sync_period))
            for _ in () if self._options.follow else events:
                pass  # the checksum covers the rest of a recording beyond the window
        return self._finish(recording.sha256)

    def _config(self, cluster: JsonObject) -> ProxyConfig:
        """The options' pod CIDRs, else those in the recording's header."""
        return proxy_config(self._source, cluster, self._options.pod_networks, self._options.version)

    def _first(self, events: Iterator[Event], started: float) -> list[Event]:
        """The initial list; the kernel gets the rules that do not depend on it while it is read."""
        self._proxier.prepare()
        try:
            return self._initial(events, started)
        except BaseException:
            self._proxier.abandon()
            raise

    def _initial(self, events: Iterator[Event], started: float) -> list[Event]:
        awaited = frozenset({"nodes"}).intersection(self._recording.header.resources)
        walk, rest = initial_part(events, self._window, awaited)
        for event in walk:
            self._observe(event)
            self._nodes.observe(event)
            if event.resource == "services":
                self._services += (event.type == "ADDED") - (event.type == "DELETED")
        self._nodes.require(self._options.node)
        read = time.perf_counter() - started
        self._progress("computing and applying the initial program", 0)
        sync = self._proxier.sync()
        self._account(sync)
        self._tally.initial = InitialConvergence(
            time.perf_counter() - started, read, sync.compute_seconds, sync.apply_seconds, sync.conntrack_seconds
        )
        self._initial_seconds = self._tally.initial.seconds
        slices = self._proxier.state.slices.values()
        self._endpoints = sum(len(piece.endpoints) for pieces in slices for piece in pieces.values())
        self._check("the initial sync", CheckTime.FIRST)
        return rest

    def _churn(self, cut: Iterator[Batch]) -> None:
        origin = None
        self._doing = "replaying and checking, events"
        self._progress(self._doing, self._events)
        wall = time.perf_counter()
        with self._looking_out() as lookout:
            for batch in cut:
                origin = batch.events[0].t if origin is None else origin
                if self._options.speed:
                    due = wall + (batch.due - origin) / NS / self._options.speed
                    time.sleep(max(0.0, due - time.perf_counter()))
                synced = self._sync_batch(batch, lookout)
                ignored = f"seq {batch.events[-1].seq}, which asked for no sync"
                self._check(f"sync {self._tally.syncs}" if synced else ignored, CheckTime.BETWEEN)

    @contextmanager
    def _looking_out(self) -> Iterator[Lookout | None]:
        """The observer during syncs, if there is a kernel."""
        place = self._target.place
        if place is None or not self._checks.ways:
            yield None
            return
        self._announced = mode_of(self._options.mode).notices(place) is Notifications.ELEMENTS
        with Lookout(place) as lookout:
            yield lookout

    def _sync_batch(self, batch: Batch, lookout: Lookout | None) -> bool:
        """Observe a batch and sync; False if nothing required a sync."""
        effects = Effects({event.seq: service_of(event) for event in batch.events}, self._proxier.dataplanes)
        steady = self._checks.steady(effects.names)
        if lookout:
            lookout.watch(steady)
        started = time.perf_counter()
        changed = [event for event in batch.events if self._observe(event)]
        observed = time.perf_counter() - started
        for event in batch.events:
            self._nodes.observe(event)
        if not self._proxier.state.pending:
            self._tally.not_counted[NOTHING] += len(changed)
            if lookout:
                lookout.report()
            return False
        sync = self._proxier.sync()
        took = time.perf_counter() - started
        generation = lookout.generation() if lookout else None
        self._account(sync)
        seen = lookout.report() if lookout else None
        live = self._account_seen(seen, sync, steady, started) if seen else None
        if seen and live is not None and generation == seen.generations[-1].id:
            live = min(live, took)  # rules were live when the sync returned; a later notification was only read late
        counted = list(zip(changed, effects.of(changed, sync.bytes > 0), strict=True))
        self._measure(batch, counted, sync, observed, (took, live))
        return True

    def _account_seen(self, seen: WatchReport, sync: Sync, steady: list[Question], started: float) -> float | None:
        """Record the observations of a sync; returns seconds until the kernel's last notification, None without one."""
        moment = f"during sync {self._tally.syncs}"
        self._tally.saw(seen)
        for target, seconds in seen.gaps.items():
            self._tally.differences.append(
                f"{moment}: {steady[target]}: it did not change, but connections were lost for {seconds:.3f} s"
            )
        for name, seconds in seen.apart.items() if sync.bytes <= ONE_TRANSACTION_BYTES else ():
            self._tally.differences.append(
                f"{moment}: an element deleted in {name} was added again {seconds:.3f} s later, in another transaction"
            )
        if seen.generations and not seen.overrun:
            return seen.generations[-1].at - started
        if self._announced and sync.bytes and not seen.overrun:
            self._tally.differences.append(
                f"{moment}: {sync.bytes} bytes were sent, but the kernel announced no change"
            )
        return None

    def _measure(
        self,
        batch: Batch,
        changes: list[tuple[Event, str]],
        sync: Sync,
        observed: float,
        took: tuple[float, float | None],
    ) -> None:
        """`took`: duration of the whole sync by the harness's clock, and until the kernel's last notification, if any.

        Work after the rules are live is counted separately, but a change is not complete before its stale flows are
        removed.
        """
        whole, live = took
        work = whole - sync.conntrack_seconds if live is None else live
        through = whole if live is None or sync.conntrack_removed else live
        tally = self._tally
        word = observed + sync.compute_seconds + sync.apply_seconds
        due = batch.due / NS
        queue = max(0.0, self._finished - due)
        begun = due + queue
        self._finished = begun + whole
        stretch = TimelineInterval(due, 1, 0, sync.operations, work, queue)
        for event, effect in changes:
            if effect != SENT:
                tally.not_counted[effect] += 1
                continue
            latency = begun + through - event.t / NS
            tally.clocks["harness" if live is None else "kernel"] += 1
            tally.convergence.record(latency)
            tally.work.record(work)
            tally.engine_word.record(word)
            tally.hidden.record(work - word)
            tally.conntrack.record(sync.conntrack_seconds)
            tally.queue.record(queue)
            tally.queued += queue > 0
            tally.pacing.record(due - event.t / NS)
            tally.by_kind[kind_of(event)].record(latency)
            self._watchers.changed(event, ChangeSample(work, queue, latency))
            stretch.changes += 1
            stretch.convergence_seconds = max(stretch.convergence_seconds, latency)
        tally.intervals.add(stretch)
        self._watchers.synced(self._events, len(tally.differences))

    def _observe(self, event: Event) -> bool:
        if event.ticks:
            return False
        self._events += 1
        self._checks.observe(event)
        if self._events % 1000 == 0:
            self._progress(self._doing, self._events)
        if event.type not in OBJECT_TYPES:
            return False
        try:
            return self._proxier.state.observe(event.type, event.resource, event.object)
        except ManifestError as error:
            raise self._recording.error(event, f"{event.type} {event.resource}: {error}") from error

    def _account(self, sync: Sync) -> None:
        self._tally.syncs += 1
        self._tally.operations += sync.operations
        self._tally.bytes += sync.bytes
        self._tally.flows_removed += sync.conntrack_removed

    def _check(self, when: str, moment: CheckTime) -> None:
        if moment != CheckTime.BETWEEN:
            self._progress(f"checking the kernel after {when}", 0)
        self._checks.check(when, moment)

    def _finish(self, sha256: str) -> ReplayResult:
        with uncollected():
            self._check("the last sync", CheckTime.LAST)
        options, node = self._options, self._proxier.state.node_name
        self._nodes.note_deleted(node)
        return self._tally.result(
            RecordingFacts(self._source, self._services, self._endpoints, sha256, self._events),
            EngineSettings(options.mode, options.min_sync_period / NS, node),
            self._target.facts,
            self._proxier.digest,
            self._checks.verdict(),
        )


def narrowed(asked: Window, named: Window) -> Window:
    """The options' window; ends that are not set are taken from the source's URL."""
    return Window(asked.start or named.start, asked.until or named.until)


@contextmanager
def _kept() -> Iterator[None]:
    """Exclude objects created in the context from garbage collection, as the daemon does at its start.

    They are long-lived, and scanning them repeatedly would take a quarter of the time.
    """
    with uncollected():
        try:
            yield
        finally:
            gc.freeze()


def kind_of(event: Event) -> str:
    """The kind of change that an event is counted as."""
    if event.type == "DELETED":
        return "deletes"
    return "service-edits" if event.resource == "services" else "endpointslice-changes"
