"""Charts of a fleet: the heat map of nodes and time, and the distribution of convergence. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markupsafe import Markup

from harness.fleet.result import Heat, HeatRow, ScenarioFigures, SweepPoint
from harness.html import words
from harness.html.scales import Scale, decades, time_ticks
from harness.html.svg import element, path, picture, text
from harness.wording import plural

LEFT, RIGHT, HEAD, FOOT = 108.0, 12.0, 22.0, 30.0
MAP_HEIGHT, PANEL = 480.0, 150.0
LEVELS = 6
"""Shades of the heat map, on a logarithmic scale."""
NARROW = 600
WIDEST_NAME, TALLEST_NAME = 40.0, 13.0
"""Maximum size of a period's name."""


def heat_map(heat: Heat, width: float, key: str) -> Markup:
    """Operations of each node, or group of nodes, in each interval: one row per node, nodes of a zone together."""
    rows = heat.rows
    columns = len(rows[0].operations) if rows else 0
    most = max((value for row in rows for value in row.operations), default=0.0)
    tall = max(2.0, min(14.0, MAP_HEIGHT / max(1, len(rows))))
    bottom = HEAD + tall * len(rows)
    wide = (width - LEFT - RIGHT) / max(1, columns)
    parts = [cell for n, row in enumerate(rows) for cell in _row(row, heat, HEAD + n * tall, (wide, tall), most)]
    parts += [*_zones(rows, tall), *_times(heat, columns, width, bottom)]
    about = f"{plural(len(rows), 'row')}; darker cells are intervals with more operations, empty ones have none."
    return picture(key, width, bottom + FOOT, "Operations by node and time", about, parts)


def _row(row: HeatRow, heat: Heat, y: float, size: tuple[float, float], most: float) -> Iterator[Markup]:
    """The cells of a row; adjacent cells of one shade share a rectangle, which keeps a page of thousands of nodes
    small."""
    shades = [shade(value, most) for value in row.operations]
    first = 0
    for n in range(1, len(shades) + 1):
        if n < len(shades) and shades[n] == shades[first]:
            continue
        if shades[first]:
            yield element(
                "rect", element("title", _label(row, heat, first, n)), x=LEFT + first * size[0], y=y,
                width=(n - first) * size[0], height=size[1], class_=f"heat-{shades[first]}",
            )  # fmt: skip
        first = n


def _label(row: HeatRow, heat: Heat, first: int, end: int) -> str:
    began, step = heat.began_seconds, heat.step_seconds
    each = sum(row.operations[first:end]) / (end - first)
    names = row.first if row.first == row.last else f"{row.first} to {row.last}"
    when = f"{words.clock(began + first * step)} to {words.clock(began + end * step)}"
    return f"{names}, {when}: {each:,.0f} operations in {words.seconds(step)}"


def shade(value: float, most: float) -> int:
    """From 1 to LEVELS on a logarithmic scale; 0 for nothing."""
    if value <= 0:
        return 0
    return max(1, min(LEVELS, math.ceil(LEVELS * math.log1p(value) / math.log1p(most))))


def _zones(rows: list[HeatRow], tall: float) -> Iterator[Markup]:
    first = 0
    for n in range(1, len(rows) + 1):
        if n < len(rows) and rows[n].zone == rows[first].zone:
            continue
        y = HEAD + first * tall
        yield element("line", x1=0, x2=LEFT, y1=y, y2=y, class_="axis")
        yield text(LEFT - 6, y + 12, words.clean(rows[first].zone or "no zone", 16), "tick", "end")
        first = n


def _times(heat: Heat, columns: int, width: float, y: float) -> Iterator[Markup]:
    began = heat.began_seconds
    x = Scale(began, began + heat.step_seconds * columns, LEFT, width - RIGHT)
    for tick in time_ticks(x.least, x.most, 4 if width < NARROW else 10) if x.most > x.least else ():
        here = x(tick)
        yield element("line", x1=here, x2=here, y1=y, y2=y + 4, class_="axis")
        label = f"{tick:g} s" if x.most < 120 else words.minutes(tick)
        yield text(here, y + 18, label, "tick", "end" if here > x.end - 14 else "middle")


def distribution(columns: list[ScenarioFigures], width: float, key: str) -> Markup:
    """Convergence over all nodes and changes in each scenario, one panel each, on one logarithmic scale."""
    bins = [each for column in columns for each in column.convergence_histogram if each.count]
    least = max(1e-4, min((each.above_seconds or 1e-3 for each in bins), default=1e-3))
    x = Scale(least, max((each.up_to_seconds for each in bins), default=1.0), LEFT, width - RIGHT, log=True)
    parts: list[Markup] = []
    for number, column in enumerate(columns):
        parts += _panel(column, x, HEAD + number * (PANEL + HEAD))
    bottom = len(columns) * (PANEL + HEAD)
    for level in decades(x.least, x.most):
        if x.least <= level <= x.most:
            parts.append(text(x(level), bottom + 18, words.short(level), "tick", "middle"))
    about = "Share of all changes of all nodes by the time until the node's rules were live."
    return picture(key, width, bottom + FOOT, "Convergence over all nodes", about, parts)


def _panel(column: ScenarioFigures, x: Scale, top: float) -> Iterator[Markup]:
    bins = column.convergence_histogram
    total = sum(each.count for each in bins) or 1
    y = Scale(0, max((each.count / total for each in bins), default=1.0), top + PANEL - HEAD, top)
    yield text(LEFT, top - 8, words.clean(column.name, 40), "panel")
    yield element("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="grid")
    yield text(LEFT - 6, top + 6, f"{100 * y.most:.3g} %", "tick", "end")
    for each in bins:
        if not each.count:
            continue
        left, right = x(max(each.above_seconds, x.least)), x(each.up_to_seconds)
        share = each.count / total
        label = f"up to {words.short(each.up_to_seconds)}: {100 * share:.3g} %"
        yield element(
            "rect", element("title", label), x=left + 0.5, y=min(y(share), y.start - 1),
            width=max(1.0, right - left - 1), height=max(1.0, y.start - y(share)), class_="bar-convergence",
        )  # fmt: skip


def sweep(points: list[SweepPoint], width: float, key: str) -> Markup:
    """CPU time over the p99 of convergence for each period, with the knee marked."""
    most_late, most_cpu = max(each.p99_seconds for each in points), max(each.cpu_seconds for each in points)
    x = Scale(0, most_late or 1.0, LEFT, width - RIGHT - 24)
    y = Scale(0, most_cpu or 1.0, HEAD + 1.5 * PANEL, HEAD)
    where = [(x(each.p99_seconds), y(each.cpu_seconds)) for each in points]
    parts = [*_sweep_axes(x, y), element("path", d=path(where), class_="sweep")]
    for each, at in zip(points, where, strict=True):
        parts += _period(each, *at)
    parts += _names(points, where)
    about = "From left to right by rising minSyncPeriod: changes are live later, and syncs take less CPU time."
    return picture(key, width, y.start + FOOT + 12, "CPU time over convergence, by minSyncPeriod", about, parts)


def _sweep_axes(x: Scale, y: Scale) -> Iterator[Markup]:
    for share in (0.0, 0.5, 1.0):
        cpu, late = share * y.most, share * x.most
        yield element("line", x1=x.start, x2=x.end, y1=y(cpu), y2=y(cpu), class_="grid")
        yield text(x.start - 6, y(cpu) + 4, words.short(cpu), "tick", "end")
        yield text(x(late), y.start + 18, words.short(late), "tick", "middle")
    yield text(x.start - 6, y.end - 10, "CPU time", "tick", "end")
    yield text((x.start + x.end) / 2, y.start + 34, "p99 of convergence", "tick", "middle")


def _period(each: SweepPoint, x: float, y: float) -> Iterator[Markup]:
    cost = f"p99 {words.short(each.p99_seconds)}, CPU {words.short(each.cpu_seconds)}"
    class_, radius = ("knee", 6.0) if each.knee else ("period", 3.5)
    label = element("title", f"{each.min_sync_period_seconds:g} s: {cost}")
    yield element("circle", label, cx=x, cy=y, r=radius, class_=class_)


def _names(points: list[SweepPoint], where: list[tuple[float, float]]) -> Iterator[Markup]:
    """Beside the dots, from the right, where they do not cover each other."""
    taken: list[tuple[float, float]] = []
    order = sorted(zip(points, where, strict=True), key=lambda each: (not each[0].knee, -each[1][0]))
    for each, (x, y) in order:
        if all(abs(x - other) > WIDEST_NAME or abs(y - height) > TALLEST_NAME for other, height in taken):
            taken.append((x, y))
            period = f"{each.min_sync_period_seconds:g} s"
            yield text(x + 8, y - 8, f"{period}, the knee" if each.knee else period, "tick")
