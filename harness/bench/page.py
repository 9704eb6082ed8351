"""The page of a run: one HTML file with scale curves, trends over the history, and distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from harness.bench import pictures
from harness.bench.history import HistoryLine, series
from harness.bench.report import COLUMNS, COMPARED, LEFT, finding, growth_lines, name_of, step_line, where
from harness.bench.result import BenchResult, FigureSummary, GrowthCurve, HistoryStep, RowResult
from harness.html import words
from harness.html.page import NARROW, WIDE, Pictures, render

TRENDED = ("first_sync.cpu_seconds", "change.cpu_seconds")
MOST_TRENDS = 24
FEWEST_RUNS = 3
"""Minimum number of runs in a history for drawing trends."""


def _mebibytes(value: float) -> str:
    return f"{value:,.0f} MiB"


SCALES = {"first_sync": words.short, "change": words.short, "peak_memory_bytes": _mebibytes, "elements": words.level}


class Chart(NamedTuple):
    """A figure's title, pictures, and legend: names with the number of their colour."""

    title: str
    pictures: Pictures
    legend: tuple[tuple[str, int], ...] = ()


def page(result: BenchResult, lines: Sequence[HistoryLine], command: str) -> str:
    """The document."""
    gate = result.gate
    value = None if gate is None or gate.passed == "unknown" else gate.passed
    return render(
        "harness.bench",
        "bench.html.j2",
        result=result,
        gate=gate,
        value=value,
        findings=[(each.red, finding(each)) for each in gate.findings] if gate else [],
        where=where(result),
        columns=COLUMNS,
        compared=[("row", lambda row: row.id), *COMPARED],
        pairs=[row for row in result.rows if row.ratios],
        left=LEFT,
        scales=_scales(result),
        growth=list(growth_lines(result)),
        trends=_trends(result, lines),
        steps=[step_line(step) for step in result.steps],
        runs=len(lines),
        distributions=_distributions(result),
        command=command,
    )


def _both(draw: Callable[[float, str], Markup], key: str) -> Pictures:
    return Pictures(*(draw(width, f"{key}-{name}") for name, width in (("wide", WIDE), ("narrow", NARROW))))


def _scales(result: BenchResult) -> list[Chart]:
    found = []
    for figure, show in SCALES.items():
        curves = [
            pictures.Curve(_of(each), _points(each), each.exponent) for each in result.growth if each.figure == figure
        ]
        if curves:
            found.append(_scale(figure, curves, show))
    return found


def _points(growth: GrowthCurve) -> list[tuple[float, float]]:
    """Memory in MiB, for round numbers on the scale."""
    unit = 2**20 if growth.figure == "peak_memory_bytes" else 1
    return [(services, value / unit) for services, value in growth.points]


def _scale(figure: str, curves: list[pictures.Curve], show: pictures.Show) -> Chart:
    title = name_of(figure).capitalize() + (", p50" if figure in ("first_sync", "change") else "")

    def draw(width: float, key: str) -> Markup:
        return pictures.scale(curves, show, width, key, f"{title} over the number of Services")

    legend = tuple((f"{c.name}: Services^{c.exponent:.2f}", n % pictures.COLOURS) for n, c in enumerate(curves))
    return Chart(title, _both(draw, f"scale-{figure}"), legend)


def _of(growth: GrowthCurve) -> str:
    return f"{growth.mode}, {growth.proxy}, {growth.churn}, x {growth.endpoints}"


def _trends(result: BenchResult, lines: Sequence[HistoryLine]) -> list[Chart]:
    """Figures with steps first."""
    held = {
        name: points
        for name, points in series(lines).items()
        if name.rpartition(" ")[2] in TRENDED and len(points) >= FEWEST_RUNS
    }
    steps: dict[str, list[HistoryStep]] = {}
    for step in result.steps:
        steps.setdefault(f"{step.row} {step.figure}", []).append(step)
    ordered = sorted(held, key=lambda name: (name not in steps, name))
    return [_trend(n, name, held[name], steps.get(name, [])) for n, name in enumerate(ordered[:MOST_TRENDS])]


def _trend(number: int, name: str, points: Sequence[tuple[int, float]], steps: list[HistoryStep]) -> Chart:
    row, _, figure = name.rpartition(" ")

    def draw(width: float, key: str) -> Markup:
        return pictures.trend(points, steps, min(width, WIDE // 2 - 20), key)

    return Chart(f"{row}: {name_of(figure)}", _both(draw, f"trend-{number}"))


def _distributions(result: BenchResult) -> list[Chart]:
    found = []
    for figure in ("first_sync", "change"):
        rows = [(row, summary) for row in result.rows if (summary := row.of(figure))]
        if rows:
            found.append(Chart(name_of(figure).capitalize(), _distribution(rows, figure)))
    return found


def _distribution(rows: list[tuple[RowResult, FigureSummary]], figure: str) -> Pictures:
    return _both(lambda width, key: pictures.distributions(rows, figure, width, key), f"spread-{figure}")
