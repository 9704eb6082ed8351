"""The result of a replay, and its JSON form (docs/replay-result.md)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harness.judge.packets.lookout import WatchReport
from harness.replay.effects import NOTHING, UNDONE
from harness.replay.latencies import Latencies
from harness.replay.timeline import Timeline

RANGE = ("above_seconds", "up_to_seconds", "count")
KINDS = ("endpointslice-changes", "service-edits", "deletes")


@dataclass
class Between:
    """Totals of what was observed during all syncs."""

    tried: int = 0
    lost: int = 0
    gap: float = 0.0
    half_done: float = 0.0
    generations: int = 0
    most_generations: int = 0
    overruns: int = 0

    def add(self, seen: WatchReport) -> None:
        """Add one sync."""
        self.tried += seen.tried
        self.lost += seen.lost
        self.gap = max(self.gap, *seen.gaps.values(), 0.0)
        self.half_done = max(self.half_done, seen.half_done_seconds)
        count = len(seen.generations)
        self.generations += count
        self.most_generations = max(self.most_generations, count)
        self.overruns += seen.overrun

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {
            "connections": self.tried,
            "lost": self.lost,
            "longest_gap_seconds": self.gap if self.tried else None,
            "half_done_seconds": self.half_done if self.generations else None,
            "generations": self.generations,
            "most_generations_in_a_sync": self.most_generations,
            "overruns": self.overruns,
        }


@dataclass
class ReplayResult:
    """Figures of one run; seconds, bytes. `verified` is True, False or "unknown"."""

    recording: dict[str, Any]
    engine: dict[str, Any]
    kernel: dict[str, Any]
    digest: str = ""
    syncs: int = 0
    operations: int = 0
    bytes: int = 0
    initial: dict[str, float] = field(default_factory=dict)
    convergence: Latencies = field(default_factory=Latencies)
    work: Latencies = field(default_factory=Latencies)
    conntrack: Latencies = field(default_factory=Latencies)
    engine_word: Latencies = field(default_factory=Latencies)
    hidden: Latencies = field(default_factory=Latencies)
    pacing: Latencies = field(default_factory=Latencies)
    queue: Latencies = field(default_factory=Latencies)
    queued: int = 0
    timeline: Timeline = field(default_factory=Timeline)
    not_counted: dict[str, int] = field(default_factory=lambda: {NOTHING: 0, UNDONE: 0})
    clocks: Counter[str] = field(default_factory=Counter)
    between: Between = field(default_factory=Between)
    flows_removed: int = 0
    by_kind: dict[str, Latencies] = field(default_factory=lambda: {kind: Latencies() for kind in KINDS})
    verified: bool | str = "unknown"
    checks: int = 0
    connections: int = 0
    verification: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    peak_rss_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {
            "recording": self.recording,
            "engine": self.engine,
            "kernel": self.kernel,
            "digest": self.digest,
            "syncs": self.syncs,
            "operations": self.operations,
            "bytes": self.bytes,
            "flows_removed": self.flows_removed,
            "initial": self.initial,
            "change": {
                "count": self.convergence.count,
                "convergence_seconds": self.convergence.summary(),
                "work_seconds": self.work.summary(),
                "engine_work_seconds": self.engine_word.summary(),
                "hidden_seconds": self.hidden.summary(),
                "conntrack_seconds": self.conntrack.summary(),
                "queue_seconds": self.queue.summary(),
                "queued": self.queued,
                "pacing_seconds": self.pacing.summary(),
                "histograms": {
                    name: [dict(zip(RANGE, each, strict=True)) for each in latencies.histogram()]
                    for name, latencies in (("work", self.work), ("convergence", self.convergence))
                },
                "by_kind": {
                    kind: {"count": v.count, "convergence_seconds": v.summary()} for kind, v in self.by_kind.items()
                },
                "clocks": dict(self.clocks),
                "not_counted": self.not_counted,
            },
            "timeline": self.timeline.as_json(),
            "between_syncs": self.between.as_json(),
            "verified": self.verified,
            "checks": self.checks,
            "connections": self.connections,
            "verification": self.verification,
            "differences": self.differences,
            "objectives": [],
            "peak_rss_bytes": self.peak_rss_bytes,
        }
