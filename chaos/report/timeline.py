"""The timeline: faults, request rate, losses by cause, latency and each kernel's lag in stacked panels.  Pure.

Timeline and width -> SVG.  Colours are classes, defined by the page's style sheet for light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from markupsafe import Markup

from chaos.report.series import FaultWindow, FollowedChange, ReportTimeline
from harness.html import words
from harness.html.scales import Scale, decades, time_ticks, upper
from harness.html.svg import element, path, picture, text
from harness.wording import plural

STRIP, PANEL, LANE = 34.0, 84.0, 34.0
HEAD, GAP, FOOT = 26.0, 12.0, 30.0
BADGE = 17.0
"""Heights of the panels and the width of a fault's number, in pixels."""
MOST_ONSETS = 40
"""Up to this number of faults, each has a line at its beginning; more lines would hide the data."""


COLOURS = {"refused": 0, "timeout": 1, "reset": 2, "no answer": 3, "unreachable": 4}
"""A cause has the same colour on every page; all others share one."""
OTHER_COLOUR = 5


def colour_of(cause: str) -> int:
    """The number of a cause's colour in the style sheet."""
    return COLOURS.get(cause, OTHER_COLOUR)


class Frame(NamedTuple):
    """The area of one panel."""

    left: float
    right: float
    top: float
    bottom: float


def draw(line: ReportTimeline, width: int, key: str) -> Markup:
    """The whole picture; `key` makes its ids unique in the page."""
    narrow = width < 600
    left, right = (46.0 if narrow else 54.0), width - 10.0
    x = Scale(line.began, line.ended, left, right)
    parts: list[Markup] = []
    y = STRIP
    for title, body in (("Requests sent per second", _rate), ("Requests lost per second, by cause", _lost),
                        ("Latency: median and worst p99", _latency)):  # fmt: skip
        frame = Frame(left, right, y + HEAD, y + HEAD + PANEL)
        parts += [text(left, y + HEAD - 9, title, "panel"), *body(line, x, frame)]
        y = frame.bottom + GAP
    lanes, y = _lanes(line, x, Frame(left, right, y + HEAD, 0))
    height = y + FOOT
    bands = [_band(window, x, y, len(line.windows) <= MOST_ONSETS) for window in line.windows]
    parts = [*bands, *parts, *lanes, *_time_axis(line, x, y, 4 if narrow else 10), *_badges(line.windows, x)]
    about = (
        f"{words.clock(line.began)} to {words.clock(line.ended)} of the run: the windows of {len(line.windows)}"
        f" faults, request rate, losses, latency, and the lag of {len(line.nodes)} kernels. Figures: in the tables."
    )
    return picture(key, width, height, "The run over time", about, parts)


def _band(window: FaultWindow, x: Scale, bottom: float, onset: bool) -> Markup:
    """A fault's window across all panels: darker until healed, lighter until the cluster was restored."""
    began, healed, settled = x(window.began), x(window.healed), x(window.settled)
    return element(
        "g",
        element("title", _telling(window)),
        element("rect", x=began, y=STRIP - 4, width=max(1.0, healed - began), height=bottom - STRIP + 4, class_="hit"),
        *([element("line", x1=began, x2=began, y1=STRIP - 8, y2=bottom, class_="onset")] if onset else ()),
        element("rect", x=healed, y=STRIP - 4, width=max(0.0, settled - healed), height=bottom - STRIP + 4,
                class_="after"),
        class_=f"band{' odd' * (window.number % 2)}{'' if window.sound else ' unsound'}", data_fault=window.number,
    )  # fmt: skip


def _telling(window: FaultWindow) -> str:
    state = "" if window.sound else ", not as planned"
    return (
        f"{window.number}. {window.fault} ({words.names(window.whom)}){state}: {words.clock(window.began)} to"
        f" {words.clock(window.healed)}, settled {words.clock(window.settled)}, {plural(window.lost, 'request')} lost"
    )


def _badges(windows: tuple[FaultWindow, ...], x: Scale) -> Iterator[Markup]:
    """The faults' numbers above their windows where they fit; each links to its row of the table."""
    free = x.start - BADGE
    for window in windows:
        middle = min(x.end - BADGE / 2, max(x.start, (x(window.began) + x(window.healed)) / 2))
        if middle - BADGE / 2 < free:
            continue
        free = middle + BADGE / 2
        shape = element("rect", x=middle - BADGE / 2 + 0.5, y=8.0, width=BADGE - 1, height=18.0, rx=5)
        number = text(middle, 20.5, str(window.number), "number", "middle")
        yield element(
            "a", element("title", _telling(window)), shape, number,
            href=f"#fault-{window.number}", aria_label=f"fault {window.number}, {window.fault}",
            class_=f"badge{' costly' if window.lost else ''}{'' if window.sound else ' unsound'}",
            data_fault=window.number,
        )  # fmt: skip


def _rate(line: ReportTimeline, x: Scale, frame: Frame) -> Iterator[Markup]:
    y = Scale(0, upper(max(b.rate for b in line.buckets)), frame.bottom, frame.top)
    yield from _levels(y, (0, y.most / 2, y.most), frame)
    corners = [(x(b.at + d), y(b.rate)) for b in line.buckets for d in (0, b.seconds)]
    closed = [(corners[0][0], frame.bottom), *corners, (corners[-1][0], frame.bottom)]
    yield element("path", d=path(closed) + "Z", class_="sent-area")
    yield element("path", d=path(corners), class_="sent-line")


def _lost(line: ReportTimeline, x: Scale, frame: Frame) -> Iterator[Markup]:
    y = Scale(0, upper(max(b.lost_in_all / b.seconds for b in line.buckets)), frame.bottom, frame.top)
    yield from _levels(y, (0, y.most / 2, y.most), frame)
    if not line.causes:
        yield text(
            (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2, "no request was lost", "note", "middle"
        )
    for bucket in line.buckets:
        low = 0.0
        left, right = x(bucket.at), x(bucket.at + bucket.seconds)
        for cause, count in bucket.lost:
            high = low + count / bucket.seconds
            label = f"{words.clock(bucket.at)}: {words.clean(cause, 60)}, {count:,} lost in {bucket.seconds:g} s"
            yield element(
                "rect", element("title", label), x=left, y=y(high), width=max(1.0, right - left - 0.6),
                height=y(low) - y(high), class_=f"cause-{colour_of(cause)}",
            )  # fmt: skip
            low = high


def _latency(line: ReportTimeline, x: Scale, frame: Frame) -> Iterator[Markup]:
    known = [v for b in line.buckets for v in (b.p50_ms, b.p99_ms) if v is not None]
    if not known:
        yield text(
            (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2, "nothing was answered", "note", "middle"
        )
        return
    levels = decades(min(known), max(known))
    y = Scale(levels[0], min(levels[-1], upper(max(known))), frame.bottom, frame.top, log=True)
    yield from _levels(y, [level for level in levels if level <= y.most], frame, " ms")
    for name, field in (("median", "p50_ms"), ("99th percentile", "p99_ms")):
        for run in _unbroken(line, field):
            points = [(x(at), y(value)) for at, value in run]
            if len(points) == 1:
                yield element("circle", cx=points[0][0], cy=points[0][1], r=1.5, class_=f"dot-{field[:3]}")
            else:
                yield element("path", element("title", name), d=path(points), class_=f"line-{field[:3]}")


def _unbroken(line: ReportTimeline, field: str) -> Iterator[list[tuple[float, float]]]:
    """Consecutive buckets that have a value: a line never spans time in which nothing was answered."""
    run: list[tuple[float, float]] = []
    for bucket in line.buckets:
        value = getattr(bucket, field)
        if value is not None:
            run.append((bucket.at + bucket.seconds / 2, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _levels(y: Scale, levels: Iterable[float], frame: Frame, unit: str = "") -> Iterator[Markup]:
    for level in levels:
        here = y(level)
        yield element("line", x1=frame.left, x2=frame.right, y1=here, y2=here, class_="grid")
        yield text(frame.left - 6, here + 3.5, words.level(level, unit), "tick", "end")


def _lanes(line: ReportTimeline, x: Scale, frame: Frame) -> tuple[list[Markup], float]:
    """Readiness lost, then one lane per node; the y of the last one's bottom."""
    parts = [text(frame.left, frame.top - 9, "How long each kernel took to follow", "panel")]
    y = frame.top
    for lane in (None, *line.nodes):
        inside = Frame(frame.left, frame.right, y, y + LANE)
        parts.append(element("line", x1=frame.left, x2=frame.right, y1=inside.bottom, y2=inside.bottom, class_="grid"))
        parts += _readiness(line, x, inside) if lane is None else _lane(line, lane, x, inside)
        y = inside.bottom
    return parts, y


def _readiness(line: ReportTimeline, x: Scale, frame: Frame) -> Iterator[Markup]:
    yield text(frame.left + 4, frame.top + 12, "readiness lost", "lane")
    for lost in line.unready:
        here, low = x(lost.at), frame.bottom - 3
        shape = path([(here - 4.0, low - 9), (here + 4.0, low - 9), (here, low)]) + "Z"
        label = f"{words.clock(lost.at)}: {words.names(lost.pods)} no longer ready"
        yield element("path", element("title", label), d=shape, class_="unready")


def _lane(line: ReportTimeline, node: str, x: Scale, frame: Frame) -> Iterator[Markup]:
    y = Scale(0.01, 100, frame.bottom - 4, frame.top + 5, log=True)
    yield element("line", x1=frame.left, x2=frame.right, y1=y(1), y2=y(1), class_="reference")
    yield text(frame.left - 6, y(1) + 3.5, "1 s", "tick", "end")
    for change in line.changes:
        if change.node == node:
            yield _dot(change, x(change.at), y(change.lag), frame)
    yield text(frame.left + 4, frame.top + 12, words.clean(node, 40), "lane")


def _dot(change: FollowedChange, here: float, there: float, frame: Frame) -> Markup:
    """A stem whose height is the lag; a cross if the kernel had not followed when the change was undone."""
    what = ("added " if change.wanted else "removed ") + words.names(change.addresses, most=4)
    took = f"after {words.seconds(change.lag)}" if change.followed else f"not within {words.seconds(change.lag)}"
    label = element("title", f"{words.clock(change.at)}: {words.clean(change.node, 40)} {what} {took}")
    stem = element("line", x1=here, x2=here, y1=frame.bottom, y2=there, class_="stem")
    if not change.followed:
        cross = path([(here - 4, there - 4), (here + 4, there + 4)]) + path(
            [(here - 4, there + 4), (here + 4, there - 4)]
        )
        return element("g", label, stem, element("path", d=cross, class_="never"))
    kind = "took" if change.wanted else "let-go"
    return element("g", label, stem, element("circle", cx=here, cy=there, r=3.2, class_=kind))


def _time_axis(line: ReportTimeline, x: Scale, y: float, count: int) -> Iterator[Markup]:
    for tick in time_ticks(line.began, line.ended, count):
        here = x(tick)
        yield element("line", x1=here, x2=here, y1=y, y2=y + 4, class_="axis")
        label = f"{tick:g} s" if line.ended < 120 else words.minutes(tick)
        edge = "end" if here > x.end - 14 else "start" if here < x.start + 6 else "middle"
        yield text(here, y + 18, label, "tick", edge)
