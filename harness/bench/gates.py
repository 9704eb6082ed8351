"""Whether something demonstrably got slower or larger. Pure.

- with a baseline in the same run, by pairs: the lower end of the interval of the ratio is over the limit;
- with a saved result: CPU time relative to the references of its own run, and counts;
- with a history: a step upwards by more than the limit, of the same relative figures, in one of the newest runs;
  if only the newest run is above all others since the last step, that is reported, but is not evidence.

Clock time counts only within one run, where both sides meet the same machine at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.bench.history import HistoryLine, line_of, series
from harness.bench.result import CHANGE_P99, BenchResult, Gate, GateFinding
from harness.bench.rows import parsed
from harness.bench.samples import MEASURED
from harness.bench.steps import SeriesStep, steps

RECENT = 7
"""Number of runs in which a step upwards fails; later it counts as the new level."""
ENOUGH = 5
"""Minimum number of runs since the last step for a single run to be an outlier."""


def verdict(fail_on: float, found: list[GateFinding], judged: int) -> Gate:
    """The gate passes without red findings, if anything could be judged."""
    return Gate(fail_on, judged, not any(each.red for each in found) if judged else "unknown", found)


def by_pairs(result: BenchResult, fail_on: float) -> tuple[list[GateFinding], int]:
    """Findings, and how many figures could be judged; a figure that is only probably over the limit does not fail."""
    limit, judged = 1 + fail_on / 100, 0
    found: list[GateFinding] = []
    for row in result.rows:
        for each in row.ratios:
            judged += each.low is not None
            red = each.low is not None and each.low > limit
            if red or (each.ratio > limit and each.figure != CHANGE_P99):  # every tail varies by more
                found.append(GateFinding(row.id, each.name, "pairs", each.ratio, each.low, each.high, red))
    return found + list(_broken(result)), judged


def _broken(result: BenchResult) -> Iterator[GateFinding]:
    """Rows that work with the baseline, but not with the candidate."""
    for row in result.rows:
        if row.baseline and row.baseline.state == MEASURED != row.state:
            yield GateFinding(row.id, row.state, "pairs", None, None, None, red=True)


def by_saved(result: BenchResult, saved: BenchResult, fail_on: float) -> tuple[list[GateFinding], int]:
    """Compare with a saved result of another time or machine."""
    before, now = (dict(_comparable(line_of(each))) for each in (saved, result))
    both = [(name, now[name] / before[name]) for name in now if name in before]
    limit = 1 + fail_on / 100
    found = [GateFinding(*_parts(name), "saved", ratio, None, None, red=True) for name, ratio in both if ratio > limit]
    return found, len(both)


def _comparable(line: HistoryLine) -> Iterator[tuple[str, float]]:
    for name, points in series([line]).items():
        if judged_name(name):
            yield name, points[0][1]


def judged_name(name: str) -> bool:
    """Whether a figure of a history or a saved result is judged: not clock time, nor memory sampled from outside."""
    row, figure = _parts(name)
    return not figure.endswith(".seconds") and (figure != "peak_memory_bytes" or parsed(row).inside)


def by_history(lines: Sequence[HistoryLine], fail_on: float) -> tuple[list[GateFinding], int]:
    """Compare the newest line with those before it."""
    limit, judged, newest = 1 + fail_on / 100, 0, len(lines) - 1
    found: list[GateFinding] = []
    for name, points in series(lines).items():
        if not judged_name(name) or points[-1][0] != newest:
            continue
        values = [value for _, value in points]
        seen = steps(values)
        since = seen[-1].at if seen else 0
        judged += len(values) > ENOUGH
        if seen and seen[-1].ratio > limit and len(values) - since <= RECENT:
            found.append(
                GateFinding(*_parts(name), "step", seen[-1].ratio, None, None, red=True, since=points[since][0])
            )
        elif (ratio := _jump(values[since:])) is not None and ratio > limit:
            found.append(GateFinding(*_parts(name), "jump", ratio, None, None, red=False, since=newest))
    return found, judged


def _jump(values: Sequence[float]) -> float | None:
    """The ratio of the newest value to the largest of the others; None with too few values."""
    *before, newest = values
    return newest / max(before) if len(before) >= ENOUGH else None


def all_steps(lines: Sequence[HistoryLine]) -> dict[str, list[tuple[int, SeriesStep]]]:
    """Every step of every judged figure, with the index of the first line after it."""
    found: dict[str, list[tuple[int, SeriesStep]]] = {}
    for name, points in series(lines).items():
        if judged_name(name) and (seen := steps([value for _, value in points])):
            found[name] = [(points[step.at][0], step) for step in seen]
    return found


def _parts(name: str) -> tuple[str, str]:
    row, _, figure = name.rpartition(" ")
    return row, figure
