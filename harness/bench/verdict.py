"""The steps of a history and the gate's verdict, as parts of the documented JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.bench.baseline import Baseline, BaselineError
from harness.bench.gates import all_steps, by_history, by_pairs, by_saved, verdict
from harness.bench.history import Line


def steps_of(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Every step of the history, newest first."""
    found = [
        {
            "row": name.rpartition(" ")[0],
            "figure": name.rpartition(" ")[2],
            "began": lines[index]["began"],
            "commit": lines[index]["commit"],
            "before": step.before,
            "after": step.after,
            "ratio": step.ratio,
            "index": index,
        }
        for name, seen in all_steps(lines).items()
        for index, step in seen
    ]
    return sorted(found, key=lambda step: (-step["index"], step["row"], step["figure"]))


def judge(
    result: Mapping[str, Any], baseline: Baseline, lines: Sequence[Line], fail_on: float | None
) -> dict[str, Any] | None:
    """The gate, by all available comparisons; None without a limit."""
    if not fail_on:
        return None
    parts = [by_pairs(result, fail_on)] if baseline.python or baseline.proxy else []
    if baseline.saved:
        parts.append(by_saved(result, saved_result(baseline.saved), fail_on))
    if lines:
        parts.append(by_history(lines, fail_on))
    return verdict(fail_on, [each for found, _ in parts for each in found], sum(judged for _, judged in parts))


def saved_result(path: Path) -> Mapping[str, Any]:
    """A file of `harness bench --json`; BaselineError if it is not."""
    try:
        found: Mapping[str, Any] = json.loads(path.read_text())
        if not isinstance(found["rows"], list) or "growth" not in found:
            raise KeyError("rows")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaselineError(f"{path}: not a result of harness bench --json: {error}") from None
    return found
