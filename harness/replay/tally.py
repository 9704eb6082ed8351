"""What a replay counts and times while it runs."""

from __future__ import annotations

import resource as process
from collections import Counter
from dataclasses import dataclass, field

from harness.judge.packets.lookout import WatchReport
from harness.replay.effects import NOTHING, UNDONE
from harness.replay.latencies import Latencies
from harness.replay.result import (
    KINDS,
    BetweenSyncs,
    ChangeGroup,
    ChangeLatencies,
    EngineSettings,
    InitialConvergence,
    RecordingFacts,
    ReplayResult,
    Verdict,
    Verification,
)
from harness.replay.timeline import Intervals


@dataclass
class ReplayTally:
    """Counts and latencies of one run; seconds, bytes."""

    syncs: int = 0
    operations: int = 0
    bytes: int = 0
    initial: InitialConvergence = InitialConvergence()
    convergence: Latencies = field(default_factory=Latencies)
    work: Latencies = field(default_factory=Latencies)
    conntrack: Latencies = field(default_factory=Latencies)
    engine_word: Latencies = field(default_factory=Latencies)
    hidden: Latencies = field(default_factory=Latencies)
    pacing: Latencies = field(default_factory=Latencies)
    queue: Latencies = field(default_factory=Latencies)
    queued: int = 0
    intervals: Intervals = field(default_factory=Intervals)
    not_counted: dict[str, int] = field(default_factory=lambda: {NOTHING: 0, UNDONE: 0})
    clocks: Counter[str] = field(default_factory=Counter)
    between: BetweenSyncs = field(default_factory=BetweenSyncs)
    flows_removed: int = 0
    by_kind: dict[str, Latencies] = field(default_factory=lambda: {kind: Latencies() for kind in KINDS})
    checks: int = 0
    connections: int = 0
    differences: list[str] = field(default_factory=list)

    def saw(self, seen: WatchReport) -> None:
        """Add what was observed during one sync."""
        between, count = self.between, len(seen.generations)
        between.connections += seen.tried
        between.lost += seen.lost
        between.generations += count
        between.most_generations_in_a_sync = max(between.most_generations_in_a_sync, count)
        between.overruns += seen.overrun
        if between.connections:
            between.longest_gap_seconds = max(between.longest_gap_seconds or 0.0, *seen.gaps.values(), 0.0)
        if between.generations:
            between.half_done_seconds = max(between.half_done_seconds or 0.0, seen.half_done_seconds)

    def result(
        self,
        recording: RecordingFacts,
        engine: EngineSettings,
        kernel: dict[str, str],
        digest: str,
        verdict: tuple[Verdict, Verification],
    ) -> ReplayResult:
        """The result, without objectives; `verdict` is `verified` and the reason."""
        return ReplayResult(
            recording=recording,
            engine=engine,
            kernel=kernel,
            digest=digest,
            syncs=self.syncs,
            operations=self.operations,
            bytes=self.bytes,
            flows_removed=self.flows_removed,
            initial=self.initial,
            change=self._change(),
            timeline=self.intervals.timeline(),
            between_syncs=self.between,
            verified=verdict[0],
            checks=self.checks,
            connections=self.connections,
            verification=verdict[1],
            differences=self.differences,
            objectives=[],
            peak_rss_bytes=process.getrusage(process.RUSAGE_SELF).ru_maxrss * 1024,
        )

    def _change(self) -> ChangeLatencies:
        return ChangeLatencies(
            count=self.convergence.count,
            convergence_seconds=self.convergence.summary(),
            work_seconds=self.work.summary(),
            engine_work_seconds=self.engine_word.summary(),
            hidden_seconds=self.hidden.summary(),
            conntrack_seconds=self.conntrack.summary(),
            queue_seconds=self.queue.summary(),
            queued=self.queued,
            pacing_seconds=self.pacing.summary(),
            histograms={"work": self.work.histogram(), "convergence": self.convergence.histogram()},
            by_kind={kind: ChangeGroup(found.count, found.summary()) for kind, found in self.by_kind.items()},
            clocks=dict(self.clocks),
            not_counted=self.not_counted,
        )
