"""Charts of a run: figures by cluster size, over the history, and their distributions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from harness.bench.report import cluster
from harness.bench.result import FigureSummary, HistoryStep, RowResult
from harness.html import words
from harness.html.scales import Scale, decades, log_ticks
from harness.html.svg import element, path, picture, text

LEFT, RIGHT, HEAD, FOOT = 62.0, 14.0, 12.0, 34.0
PANEL, TREND = 250.0, 90.0
STRIP, LABEL = 30.0, 17.0
COLOURS = 6
"""Number of line colours; more lines repeat them."""
Show = Callable[[float], str]


class Curve(NamedTuple):
    """A figure of one proxy by the number of Services."""

    name: str
    points: Sequence[tuple[float, float]]
    exponent: float


def scale(curves: Sequence[Curve], show: Show, width: float, key: str, title: str) -> Markup:
    """Both scales are logarithmic, so that power laws are straight lines; the fitted one is dashed."""
    values = [value for curve in curves for _, value in curve.points]
    sizes = sorted({size for curve in curves for size, _ in curve.points})
    levels = decades(min(values), max(values))
    x = Scale(sizes[0] / 1.15, sizes[-1] * 1.15, LEFT, width - RIGHT, log=True)
    y = Scale(levels[0], levels[-1], HEAD + PANEL, HEAD, log=True)
    parts = [*_levels([(level, show(level)) for level in log_ticks(levels[0], levels[-1])], y, x), *_sizes(sizes, x, y)]
    for number, curve in enumerate(curves):
        parts += _curve(curve, number % COLOURS, x, y, show)
    about = "; ".join(f"{curve.name}: exponent {curve.exponent:.2f}" for curve in curves)
    return picture(key, width, HEAD + PANEL + FOOT, title, about, parts)


def _sizes(sizes: Iterable[float], x: Scale, y: Scale) -> Iterator[Markup]:
    last = -100.0
    for size in sizes:
        here = x(size)
        yield element("line", x1=here, x2=here, y1=y.start, y2=y.start + 4, class_="axis")
        if here - last > 46:
            yield text(here, y.start + 17, f"{size:,.0f}", "tick", "middle" if here < x.end - 24 else "end")
            last = here
    yield text((x.start + x.end) / 2, y.start + 31, "Services", "tick", "middle")


def _curve(curve: Curve, colour: int, x: Scale, y: Scale, show: Show) -> Iterator[Markup]:
    yield element("path", d=path((x(size), y(value)) for size, value in curve.points), class_=f"line line-{colour}")
    yield element("path", d=path(_fitted(curve, x, y)), class_=f"fit line-{colour}")
    for size, value in curve.points:
        label = element("title", f"{curve.name}: {size:,.0f} Services: {show(value)}")
        yield element("circle", label, cx=x(size), cy=y(value), r=3.5, class_=f"cause-{colour}")


def _fitted(curve: Curve, x: Scale, y: Scale) -> Iterator[tuple[float, float]]:
    """The fitted power law, through the points' geometric mean."""
    first, last = curve.points[0][0], curve.points[-1][0]
    factor = 1.0
    for size, value in curve.points:
        factor *= (value / size**curve.exponent) ** (1 / len(curve.points))
    for size in (first, last):
        yield x(size), y(factor * size**curve.exponent)


def trend(points: Sequence[tuple[int, float]], steps: Sequence[HistoryStep], width: float, key: str) -> Markup:
    """A figure, relative to its median, over the runs of the history; steps are marked."""
    ordered = sorted(value for _, value in points)
    middle = ordered[len(ordered) // 2]
    relative = [(index, value / middle) for index, value in points]
    low, high = min(0.8, *(v for _, v in relative)), max(1.2, *(v for _, v in relative))
    x = Scale(points[0][0], max(points[-1][0], points[0][0] + 1), LEFT - 16, width - RIGHT)
    y = Scale(low, high, HEAD + TREND, HEAD)
    parts = [*_levels([(low, f"{low:.2f}"), (1.0, "1"), (high, f"{high:.2f}")], y, x)]
    for step in steps:
        here = (x(step.index) + x(step.index - 1)) / 2
        label = f"{step.ratio - 1:+.0%}"
        kind = "worse" if step.ratio > 1 else "better"
        title = element("title", f"{label} since {step.began}")
        parts += [element("line", title, x1=here, x2=here, y1=y.end, y2=y.start, class_=f"step {kind}")]
        edge = "end" if here > width / 2 else "start"
        parts += [text(here + (-4 if edge == "end" else 4), y.end + 10, label, f"tick {kind}", edge)]
    parts += [element("path", d=path((x(index), y(value)) for index, value in relative), class_="line line-2")]
    for index, value in relative:
        title = element("title", f"run {index + 1}: {value:.3f}")
        parts.append(element("circle", title, cx=x(index), cy=y(value), r=2.5, class_="cause-2"))
    return picture(key, width, HEAD + TREND + 12, "Over the runs of the history", f"{len(points)} runs", parts)


def distributions(rows: Sequence[tuple[RowResult, FigureSummary]], figure: str, width: float, key: str) -> Markup:
    """One strip per row on a logarithmic time scale: the distribution of samples, with p50 and p99."""
    bins = [each for _, summary in rows for each in summary.histogram if each.count]
    least = max(1e-6, min(each.above_seconds for each in bins))
    x = Scale(least, max(each.up_to_seconds for each in bins), 8, width - RIGHT, log=True)
    parts: list[Markup] = []
    for number, (row, summary) in enumerate(rows):
        top = 4 + number * (STRIP + LABEL + 6)
        parts += _strip(row, summary, x, top)
    bottom = 4 + len(rows) * (STRIP + LABEL + 6)
    parts += _time_axis(x, bottom)
    about = "The table has the percentiles."
    return picture(key, width, bottom + 24, f"Distribution of the {figure.replace('_', ' ')}", about, parts)


def _strip(row: RowResult, held: FigureSummary, x: Scale, top: float) -> Iterator[Markup]:
    base = top + LABEL + STRIP
    yield text(x.start, top + 11, f"{row.mode}, {cluster(row)}, {row.churn}, {row.proxy}", "lane")
    yield element("line", x1=x.start, x2=x.end, y1=base, y2=base, class_="grid")
    most = max(each.count for each in held.histogram)
    for each in held.histogram:
        if each.count:
            left, right = x(each.above_seconds), x(each.up_to_seconds)
            height = max(1.5, STRIP * each.count / most)
            low, high = words.short(each.above_seconds), words.short(each.up_to_seconds)
            title = element("title", f"{low} to {high}: {each.count:,} of {held.count:,}")
            yield element(
                "rect",
                title,
                x=left + 0.5,
                y=base - height,
                width=max(1.0, right - left - 1),
                height=height,
                class_="bar",
            )
    for name in ("p50", "p99"):
        seconds = held.seconds[name]
        here = x(seconds)
        title = element("title", f"{name}: {words.short(seconds)}")
        yield element("line", title, x1=here, x2=here, y1=base - STRIP, y2=base, class_=f"mark-{name}")


def _time_axis(x: Scale, y: float) -> Iterator[Markup]:
    for level in log_ticks(x.least, x.most):
        here = x(level)
        yield element("line", x1=here, x2=here, y1=y, y2=y + 4, class_="axis")
        edge = "end" if here > x.end - 20 else "start" if here < x.start + 10 else "middle"
        yield text(here, y + 17, words.short(level), "tick", edge)


def _levels(levels: Iterable[tuple[float, str]], y: Scale, x: Scale) -> Iterator[Markup]:
    for level, label in levels:
        here = y(level)
        yield element("line", x1=x.start, x2=x.end, y1=here, y2=here, class_="grid")
        yield text(x.start - 6, here + 3.5, label, "tick", "end")
