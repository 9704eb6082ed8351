"""The result of a replay: what `harness replay --json` writes (docs/replay-result.md).  Seconds, bytes."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Verdict = bool | Literal["unknown"]
Percentiles = dict[str, float]
"""Seconds by nearest rank: p50, p90, p99, p99.9 and max."""
KINDS = ("endpointslice-changes", "service-edits", "deletes")


class RecordingFacts(Struct, frozen=True):
    """What was replayed; `services` and `endpoints` as of the end of the initial list."""

    path: str
    services: int
    endpoints: int
    sha256: str
    events: int


class EngineSettings(Struct, frozen=True):
    """The engine's settings; `node` is None if the recording has no Node."""

    mode: str
    min_sync_period_seconds: float
    node: str | None


class InitialConvergence(Struct, frozen=True):
    """Initial convergence, from opening the recording until every rule is live, and its parts."""

    seconds: float = 0.0
    read_seconds: float = 0.0
    compute_seconds: float = 0.0
    apply_seconds: float = 0.0
    conntrack_seconds: float = 0.0


class Bin(Struct, frozen=True):
    """One range of a histogram: the number of samples in it."""

    above_seconds: float
    up_to_seconds: float
    count: int


class ChangeGroup(Struct, frozen=True):
    """Convergence of some of the changes; None without any."""

    count: int
    convergence_seconds: Percentiles | None


class ChangeLatencies(Struct, frozen=True, kw_only=True):
    """Latencies of the changes that reached the kernel; None without changes.

    `histograms` has the distributions `work` and `convergence`, whose bins follow each other.  `by_kind` has each of
    KINDS, `clocks` the number of times that each clock ended, `not_counted` the events without an effect on the
    kernel, by reason.
    """

    count: int
    convergence_seconds: Percentiles | None
    work_seconds: Percentiles | None
    engine_work_seconds: Percentiles | None
    hidden_seconds: Percentiles | None
    conntrack_seconds: Percentiles | None
    queue_seconds: Percentiles | None
    queued: int
    pacing_seconds: Percentiles | None
    histograms: dict[str, list[Bin]]
    by_kind: dict[str, ChangeGroup]
    clocks: dict[str, int]
    not_counted: dict[str, int]


class TimelineInterval(Struct):
    """Totals and worst latencies of the syncs due in one interval, which begins at `at_seconds`."""

    at_seconds: float
    syncs: int = 0
    changes: int = 0
    operations: int = 0
    work_seconds: float = 0.0
    queue_seconds: float = 0.0
    convergence_seconds: float = 0.0


class Timeline(Struct, frozen=True):
    """The syncs over the recording's time: the intervals of `step_seconds` with at least one sync."""

    step_seconds: float
    stretches: list[TimelineInterval]


class BetweenSyncs(Struct):
    """Totals of what was observed during syncs; a time is None if nothing could show it."""

    connections: int = 0
    lost: int = 0
    longest_gap_seconds: float | None = None
    half_done_seconds: float | None = None
    generations: int = 0
    most_generations_in_a_sync: int = 0
    overruns: int = 0


class Verification(Struct, frozen=True):
    """How the rules were verified: `checked` and `packets` are counts by kind, `not_checked` is in words."""

    kind: str
    held_by: str
    unknown_because: str
    checked: dict[str, int]
    packets: dict[str, int]
    not_checked: list[str]


class Objective(Struct, frozen=True):
    """`figure` is the worst of all runs, over `samples` samples; `why` is the reason if it is not true, else empty."""

    name: str
    limit: float | str | None
    figure: float | str | None
    samples: int
    verdict: Verdict
    why: str = ""


class ReplayResult(Struct, frozen=True, kw_only=True):
    """One run; `kernel` has its kind, and versions of the kernel and of the mode's tools."""

    recording: RecordingFacts
    engine: EngineSettings
    kernel: dict[str, str]
    digest: str
    syncs: int
    operations: int
    bytes: int
    flows_removed: int
    initial: InitialConvergence
    change: ChangeLatencies
    timeline: Timeline
    between_syncs: BetweenSyncs
    verified: Verdict
    checks: int
    connections: int
    verification: Verification
    differences: list[str]
    objectives: list[Objective]
    peak_rss_bytes: int
