"""Compares two saved results: of replays, of comparisons, or of chaos runs.

Output of `harness replay --json`, `harness compare --json` or `harness chaos run` -> SavedResults -> Changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from harness.exit_codes import EXIT_INPUT
from harness.failure import Failure
from harness.replay.compare.result import Changes, Comparison, FigureChange, ModeRun
from harness.replay.result import Percentiles, ReplayResult

REPLAY, CHAOS = "replay", "chaos"
VERDICT = "verdict.json"
T = TypeVar("T")
Rows = tuple[tuple[str, str, bool, Callable[[T], float | None]], ...]
"""Name, unit, whether an increase is worse, and value."""


class SavedError(Failure, ValueError):
    """A file that is not such a result; the message names it and the accepted kinds."""

    exit_code = EXIT_INPUT


class FaultLosses(msgspec.Struct, frozen=True):
    """One fault of a chaos run, and the requests lost to it."""

    number: int
    fault: str
    lost: int

    @property
    def name(self) -> str:
        """The fault with its number on the verdict's page."""
        return f"{self.number}. {self.fault}"


class ChaosVerdict(msgspec.Struct, frozen=True):
    """What is compared of a chaos run's verdict (docs/chaos-report.md); latencies in microseconds."""

    value: bool | None
    findings: list[FaultLosses]
    sent: int
    lost: int
    latency_us: dict[str, float | None] = {}
    engine_cpu_share: float | None = None
    experiment: str | None = None
    seed: int | None = None
    mode: str | None = None


class SavedResults(NamedTuple):
    """`results` by mode: of replays, or the verdict of a chaos run."""

    path: str
    kind: str
    results: Mapping[str, ReplayResult | ChaosVerdict]


def read_saved(path: str) -> SavedResults:
    """Read a file or a chaos run's folder; SavedError if it contains no result."""
    file = Path(path, VERDICT) if Path(path).is_dir() else Path(path)
    try:
        value: object = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise SavedError(f"{file}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        value = None
    try:
        saved = _saved(path, value)
    except msgspec.ValidationError as error:
        raise SavedError(f"{file}: was written by another version or is truncated: {error}") from None
    if saved is None or not saved.results:
        raise SavedError(
            f"{file}: not a result: give the output of replay --json or compare --json, or a chaos run's folder"
        )
    return saved


def _saved(path: str, value: object) -> SavedResults | None:
    """None for anything else; ValidationError if something is missing."""
    if not isinstance(value, dict):
        return None
    if "judgements" in value and "findings" in value:
        verdict = msgspec.convert(value, ChaosVerdict)
        return SavedResults(path, CHAOS, {verdict.mode or CHAOS: verdict})
    if "engine" in value and "change" in value:
        result = msgspec.convert(value, ReplayResult)
        return SavedResults(path, REPLAY, {result.engine.mode: result})
    if "modes" in value and "differences" in value:
        return of_runs(path, msgspec.convert(value, Comparison).modes)
    return None


def of_runs(path: str, runs: list[ModeRun]) -> SavedResults:
    """The results of a comparison."""
    return SavedResults(path, REPLAY, {run.mode: run.result for run in runs if run.result})


def changes(before: SavedResults, after: SavedResults) -> Changes:
    """Every figure of the common modes; SavedError if there are none."""
    if before.kind != after.kind:
        raise SavedError(
            f"{before.path} is a {before.kind} result, {after.path} a {after.kind} result: they are not comparable"
        )
    pairs = _pairs(before, after)
    if not pairs:
        raise SavedError(
            f"{before.path} has {', '.join(before.results)},"
            f" {after.path} has {', '.join(after.results)}: they have no mode in common"
        )
    figures: list[FigureChange] = []
    remarks: list[str] = []
    for mode, old, new in pairs:
        if isinstance(old, ReplayResult) and isinstance(new, ReplayResult):
            figures += _figures(mode, _REPLAY, old, new)
            remarks += _replay_remarks(mode, old, new)
        elif isinstance(old, ChaosVerdict) and isinstance(new, ChaosVerdict):
            figures += [*_figures(mode, _CHAOS, old, new), *_lost(mode, old, new)]
            remarks += _chaos_remarks(old, new)
    return Changes(before.path, after.path, before.kind, figures, list(dict.fromkeys(remarks)))


def _pairs(
    before: SavedResults, after: SavedResults
) -> list[tuple[str, ReplayResult | ChaosVerdict, ReplayResult | ChaosVerdict]]:
    """Pairs of results by mode; if both have a single mode, these are paired even if they differ."""
    if len(before.results) == len(after.results) == 1:
        (old, one), (new, other) = next(iter(before.results.items())), next(iter(after.results.items()))
        return [(old if old == new else f"{old}, {new}", one, other)]
    return [(mode, before.results[mode], after.results[mode]) for mode in before.results if mode in after.results]


def _figures(mode: str, rows: Rows[T], old: T, new: T) -> Iterator[FigureChange]:
    for name, unit, judged, of in rows:
        yield _figure(mode, name, unit, judged, of(old), of(new))


def _figure(mode: str, name: str, unit: str, judged: bool, before: float | None, after: float | None) -> FigureChange:
    percent = None
    if before is not None and after is not None:
        percent = 100 * (after - before) / before if before else None if after else 0.0
    return FigureChange(mode, name, unit, before, after, judged, percent)


def _milliseconds(summary: Percentiles | None, percentile: str) -> float | None:
    return _times(1e3, summary.get(percentile)) if summary else None


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else value * factor


_REPLAY: Rows[ReplayResult] = (
    ("compute + apply p50", "ms", True, lambda r: _milliseconds(r.change.work_seconds, "p50")),
    ("compute + apply p99", "ms", True, lambda r: _milliseconds(r.change.work_seconds, "p99")),
    ("queue wait p99", "ms", True, lambda r: _milliseconds(r.change.queue_seconds, "p99")),
    ("initial convergence", "s", True, lambda r: r.initial.seconds),
    ("change converged p50", "ms", False, lambda r: _milliseconds(r.change.convergence_seconds, "p50")),
    ("change converged p99", "ms", False, lambda r: _milliseconds(r.change.convergence_seconds, "p99")),
    ("longest gap", "ms", True, lambda r: _times(1e3, r.between_syncs.longest_gap_seconds)),
    ("syncs", "", False, lambda r: r.syncs),
    ("operations", "", False, lambda r: r.operations),
    ("sent to the kernel", "MiB", False, lambda r: r.bytes / 2**20),
    ("peak memory", "MiB", True, lambda r: r.peak_rss_bytes / 2**20),
)
"""Convergence is not judged, as it is mostly determined by minSyncPeriod."""


def _replay_remarks(mode: str, old: ReplayResult, new: ReplayResult) -> Iterator[str]:
    facts: tuple[tuple[str, Callable[[ReplayResult], object]], ...] = (
        ("of different recordings", lambda r: r.recording.sha256),
        ("of different nodes", lambda r: r.engine.node),
        ("with different minSyncPeriods", lambda r: r.engine.min_sync_period_seconds),
        (
            "in different kernels: their times are not comparable",
            lambda r: tuple(r.kernel.get(key) for key in ("kind", "release", "machine")),
        ),
    )
    yield from (f"{mode}: the results are {what}" for what, of in facts if of(old) != of(new))
    if old.digest != new.digest:
        yield f"{mode}: digests differ: different programs were sent to the kernel"
    for name, result in (("before", old), ("after", new)):
        if result.verified is not True:
            yield f"{mode}: {name} was {'NOT verified' if result.verified is False else 'not verified (unknown)'}"


def _lost(mode: str, old: ChaosVerdict, new: ChaosVerdict) -> Iterator[FigureChange]:
    known = {fault.name: fault.lost for fault in old.findings}
    for fault in new.findings:
        if fault.name in known:
            yield _figure(mode, f"lost to {fault.name}", "", judged=False, before=known[fault.name], after=fault.lost)


_CHAOS: Rows[ChaosVerdict] = (
    ("requests sent", "", False, lambda v: v.sent),
    ("requests lost", "", False, lambda v: v.lost),
    ("requests lost", "%", True, lambda v: 100 * v.lost / v.sent if v.sent else None),
    ("latency p50", "ms", True, lambda v: _times(1e-3, v.latency_us.get("p50"))),
    ("latency p99", "ms", True, lambda v: _times(1e-3, v.latency_us.get("p99"))),
    ("latency p99.9", "ms", False, lambda v: _times(1e-3, v.latency_us.get("p999"))),
    ("engines' CPU", "%", True, lambda v: _times(100, v.engine_cpu_share)),
)


def _chaos_remarks(old: ChaosVerdict, new: ChaosVerdict) -> Iterator[str]:
    facts: tuple[tuple[str, Callable[[ChaosVerdict], object]], ...] = (
        ("experiment", lambda v: v.experiment),
        ("seed", lambda v: v.seed),
        ("mode", lambda v: v.mode),
    )
    for what, of in facts:
        if of(old) != of(new):
            yield f"the runs have a different {what}: {of(old)} before, {of(new)} after"
    if [fault.name for fault in old.findings] != [fault.name for fault in new.findings]:
        yield "the runs did not have the same faults"
    for name, verdict in (("before", old), ("after", new)):
        if verdict.value is not True:
            yield f"the run {name} {'failed' if verdict.value is False else 'is unknown'}"
