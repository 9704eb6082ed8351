"""Compares two saved results: of replays, of comparisons, or of chaos runs.

Output of `harness replay --json`, `harness compare --json` or `harness chaos run` -> Saved -> Changes.  Reads only
their documented JSON forms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.failure import Failure

REPLAY, CHAOS = "replay", "chaos"
VERDICT = "verdict.json"
Result = Mapping[str, Any]


class SavedError(Failure, ValueError):
    """A file that is not such a result; the message names it and says what is accepted."""

    exit_code = 2


class Saved(NamedTuple):
    """`results` by mode: a replay's, or a chaos run's verdict."""

    path: str
    kind: str
    results: dict[str, Result]


class FigureChange(NamedTuple):
    """One figure in both results, None if missing. `unit` is "s", "ms", "MiB", "%" or "" for a count."""

    mode: str
    name: str
    unit: str
    before: float | None
    after: float | None
    judged: bool
    """Whether --max-worse applies: an increase is worse."""

    @property
    def percent(self) -> float | None:
        """The increase from `before` to `after`; None if undefined."""
        if self.before is None or self.after is None:
            return None
        if not self.before:
            return 0.0 if not self.after else None
        return 100 * (self.after - self.before) / self.before

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {**self._asdict(), "change_percent": self.percent}


class Changes(NamedTuple):
    """All figures of the common modes, and remarks on their comparability."""

    before: str
    after: str
    kind: str
    figures: list[FigureChange]
    remarks: list[str]

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {**self._asdict(), "figures": [each.as_json() for each in self.figures]}


def read_saved(path: str) -> Saved:
    """Read a file or a chaos run's folder; SavedError if it contains no result."""
    file = Path(path, VERDICT) if Path(path).is_dir() else Path(path)
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise SavedError(f"{file}: {error.strerror}") from None
    except ValueError:
        value = None
    kind, results = _results(value)
    if not results:
        raise SavedError(
            f"{file}: not a result: give the output of replay --json or compare --json, or a chaos run's folder"
        )
    return Saved(path, kind, results)


def _results(value: Any) -> tuple[str, dict[str, Result]]:
    if not isinstance(value, dict):
        return "", {}
    if "judgements" in value and "findings" in value:
        return CHAOS, {value.get("mode") or CHAOS: value}
    if "engine" in value and "change" in value:
        return REPLAY, {value["engine"]["mode"]: value}
    runs = value.get("modes")
    if isinstance(runs, list) and all(isinstance(run, dict) and "result" in run for run in runs):
        return REPLAY, {run["mode"]: run["result"] for run in runs if run["result"]}
    return "", {}


def changes(before: Saved, after: Saved) -> Changes:
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
    figures, remarks = (_replay_figures, _replay_remarks) if before.kind == REPLAY else (_chaos_figures, _chaos_remarks)
    try:
        found = [each for mode, old, new in pairs for each in figures(mode, old, new)]
        lines = list(dict.fromkeys(line for mode, old, new in pairs for line in remarks(mode, old, new)))
    except (KeyError, TypeError, AttributeError) as error:
        raise SavedError(
            f"{before.path} and {after.path}: one was written by another version or is truncated: missing {error}"
        ) from None
    return Changes(before.path, after.path, before.kind, found, lines)


def _pairs(before: Saved, after: Saved) -> list[tuple[str, Result, Result]]:
    """Pairs of results by mode; if both have a single mode, these are paired whatever the modes."""
    if len(before.results) == len(after.results) == 1:
        (old, one), (new, other) = next(iter(before.results.items())), next(iter(after.results.items()))
        return [(old if old == new else f"{old}, {new}", one, other)]
    return [(mode, before.results[mode], after.results[mode]) for mode in before.results if mode in after.results]


def _summary(key: str, percentile: str) -> Callable[[Result], float | None]:
    return lambda result: _times(1e3, (result["change"].get(key) or {}).get(percentile))


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else value * factor


_REPLAY: tuple[tuple[str, str, bool, Callable[[Result], float | None]], ...] = (
    ("compute + apply p50", "ms", True, _summary("work_seconds", "p50")),
    ("compute + apply p99", "ms", True, _summary("work_seconds", "p99")),
    ("queue wait p99", "ms", True, _summary("queue_seconds", "p99")),
    ("initial convergence", "s", True, lambda r: r["initial"]["seconds"]),
    ("change converged p50", "ms", False, _summary("convergence_seconds", "p50")),
    ("change converged p99", "ms", False, _summary("convergence_seconds", "p99")),
    ("longest gap", "ms", True, lambda r: _times(1e3, r["between_syncs"]["longest_gap_seconds"])),
    ("syncs", "", False, lambda r: r["syncs"]),
    ("operations", "", False, lambda r: r["operations"]),
    ("sent to the kernel", "MiB", False, lambda r: r["bytes"] / 2**20),
    ("peak memory", "MiB", True, lambda r: r["peak_rss_bytes"] / 2**20),
)
"""Name, unit, whether an increase is worse, and value. Convergence is not judged: mostly it is minSyncPeriod."""


def _replay_figures(mode: str, old: Result, new: Result) -> Iterator[FigureChange]:
    for name, unit, judged, of in _REPLAY:
        yield FigureChange(mode, name, unit, of(old), of(new), judged)


def _replay_remarks(mode: str, old: Result, new: Result) -> Iterator[str]:
    facts: tuple[tuple[str, Callable[[Result], object]], ...] = (
("of different recordings", lambda r: r["recording"]["sha256"]),
        ("of different nodes", lambda r: r["engine"]["node"]),
        ("with different minSyncPeriods", lambda r: r["engine"]["min_sync_period_seconds"]),
        (
            "in different kernels: their times are not comparable",
            lambda r: tuple(r["kernel"].get(key) for key in ("kind", "release", "machine")),
        ),
    )  # fmt: skip
    yield from (f"{mode}: the results are {what}" for what, of in facts if of(old) != of(new))
    if old["digest"] != new["digest"]:
        yield f"{mode}: digests differ: different programs were sent to the kernel"
    for name, result in (("before", old), ("after", new)):
        if result["verified"] is not True:
            yield f"{mode}: {name} was {'NOT verified' if result['verified'] is False else 'not verified (unknown)'}"


def _chaos_figures(mode: str, old: Result, new: Result) -> Iterator[FigureChange]:
    for name, unit, judged, of in _CHAOS:
        yield FigureChange(mode, name, unit, of(old), of(new), judged)
    faults = {(each["number"], each["fault"]): each["lost"] for each in old["findings"]}
    for each in new["findings"]:
        if (known := faults.get((each["number"], each["fault"]))) is not None:
            yield FigureChange(mode, f"lost to {each['number']}. {each['fault']}", "", known, each["lost"], False)


def _latency(name: str) -> Callable[[Result], float | None]:
    return lambda verdict: _times(1e-3, (verdict.get("latency_us") or {}).get(name))


_CHAOS: tuple[tuple[str, str, bool, Callable[[Result], float | None]], ...] = (
    ("requests sent", "", False, lambda v: v["sent"]),
    ("requests lost", "", False, lambda v: v["lost"]),
    ("requests lost", "%", True, lambda v: 100 * v["lost"] / v["sent"] if v["sent"] else None),
    ("latency p50", "ms", True, _latency("p50")),
    ("latency p99", "ms", True, _latency("p99")),
    ("latency p99.9", "ms", False, _latency("p999")),
    ("engines' CPU", "%", True, lambda v: _times(100, v.get("engine_cpu_share"))),
)


def _chaos_remarks(mode: str, old: Result, new: Result) -> Iterator[str]:
    for what in ("experiment", "seed", "mode"):
        if old.get(what) != new.get(what):
            yield f"the runs have a different {what}: {old.get(what)} before, {new.get(what)} after"
    plans = [[(each["number"], each["fault"]) for each in verdict["findings"]] for verdict in (old, new)]
    if plans[0] != plans[1]:
        yield "the runs did not have the same faults"
    for name, verdict in (("before", old), ("after", new)):
        if verdict["value"] is not True:
            yield f"the run {name} {'failed' if verdict['value'] is False else 'is unknown'}"
