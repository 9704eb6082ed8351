"""The steps of a history and the gate's verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.bench.baseline import Baseline, BaselineError
from harness.bench.gates import all_steps, by_history, by_pairs, by_saved, verdict
from harness.bench.history import HistoryLine
from harness.bench.result import BenchResult, Gate, HistoryStep


def steps_of(lines: Sequence[HistoryLine]) -> list[HistoryStep]:
    """Every step of the history, newest first."""
    found = []
    for name, seen in all_steps(lines).items():
        row, _, figure = name.rpartition(" ")
        for index, step in seen:
            at = lines[index]
            found.append(HistoryStep(row, figure, at.began, at.commit, step.before, step.after, step.ratio, index))
    return sorted(found, key=lambda step: (-step.index, step.row, step.figure))


def judge(result: BenchResult, baseline: Baseline, lines: Sequence[HistoryLine], fail_on: float | None) -> Gate | None:
    """The gate, by all available comparisons; None without a limit."""
    if not fail_on:
        return None
    parts = [by_pairs(result, fail_on)] if baseline.python or baseline.proxy else []
    if baseline.saved:
        parts.append(by_saved(result, saved_result(baseline.saved), fail_on))
    if lines:
        parts.append(by_history(lines, fail_on))
    return verdict(fail_on, [each for found, _ in parts for each in found], sum(judged for _, judged in parts))


def saved_result(path: Path) -> BenchResult:
    """A file of `harness bench --json`; BaselineError if it is not."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchResult)
    except (OSError, msgspec.MsgspecError) as error:
        raise BaselineError(f"{path}: not a result of harness bench --json: {error}") from None
