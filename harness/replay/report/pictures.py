"""Charts of a replay: the distribution of latencies, and syncs over time. Pure.

The result's `change.histograms` and `timeline` -> SVG.  Charts side by side have the same scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from harness.html import words
from harness.html.scales import Scale, decades, time_ticks, upper
from harness.html.svg import element, picture, text
from harness.replay.result import ReplayResult, Timeline, TimelineInterval
from harness.wording import plural

PANEL, HEAD, GAP, FOOT = 84.0, 26.0, 10.0, 30.0
LEFT, RIGHT = 58.0, 12.0
NARROW = 600
SPREADS = (
    ("work", "Compute + apply: share of changes"),
    ("convergence", "Convergence: share of changes"),
)
TIMES: tuple[tuple[str, str, Callable[[TimelineInterval], float]], ...] = (
    ("work", "Compute + apply, worst sync", lambda stretch: stretch.work_seconds),
    ("queue", "Queue wait, worst change", lambda stretch: stretch.queue_seconds),
    ("convergence", "Convergence, worst change", lambda stretch: stretch.convergence_seconds),
)
_LEAST_SECONDS = 1e-6


class Scales(NamedTuple):
    """The common scales of several replays' charts: seconds, and shares from 0 to 1."""

    least: float
    most: float
    share: Mapping[str, float]
    began: float
    ended: float
    changes: float
    peaks: Mapping[str, float]


def scales(results: Sequence[ReplayResult]) -> Scales:
    """Scales that fit all of the results."""
    bins = [each for r in results for name, _ in SPREADS for each in r.change.histograms[name] if each.count]
    stretches = [each for r in results for each in r.timeline.stretches]
    step = max((r.timeline.step_seconds for r in results), default=1.0)
    return Scales(
        max(_LEAST_SECONDS, min((each.above_seconds for each in bins), default=1e-4)),
        max((each.up_to_seconds for each in bins), default=1.0),
        {name: max((max(_shares(r, name), default=0.0) for r in results), default=0.0) or 1.0 for name, _ in SPREADS},
        min((each.at_seconds for each in stretches), default=0.0),
        max((each.at_seconds for each in stretches), default=0.0) + step,
        max((each.changes for each in stretches), default=0),
        {kind: max(map(of, stretches), default=0.0) for kind, _, of in TIMES},
    )


def _shares(result: ReplayResult, name: str) -> list[float]:
    total = sum(each.count for each in result.change.histograms[name])
    return [each.count / total for each in result.change.histograms[name]]


def histogram(result: ReplayResult, on: Scales, width: float, key: str) -> Markup:
    """The distributions of work (above) and convergence (below) per change, on a logarithmic scale."""
    x = Scale(on.least, on.most, LEFT, width - RIGHT, log=True)
    parts: list[Markup] = []
    y = 0.0
    for name, title in SPREADS:
        top = y + HEAD
        parts += [text(LEFT, top - 9, title, "panel"), *_spread(result, name, x, top, on.share[name])]
        y = top + PANEL + GAP
    bottom = y - GAP
    parts += _log_axis(x, bottom)
    about = "Two histograms on a common time scale; the table of figures lists their percentiles."
    return picture(key, width, bottom + FOOT, f"How long a change takes, mode {result.engine.mode}", about, parts)


def _spread(result: ReplayResult, name: str, x: Scale, top: float, most: float) -> Iterator[Markup]:
    y = Scale(0, most, top + PANEL, top)
    yield from _levels(((0, "0"), (most / 2, f"{most * 50:.3g} %"), (most, f"{most * 100:.3g} %")), y, x)
    for each, share in zip(result.change.histograms[name], _shares(result, name), strict=True):
        low, high = each.above_seconds, each.up_to_seconds
        if each.count:
            label = f"{words.short(low)} to {words.short(high)}: {plural(each.count, 'change')}"
            yield _bar(x(low), x(high), y(share), y(0), label, name)


def _bar(left: float, right: float, top: float, bottom: float, label: str, kind: str) -> Markup:
    return element(
        "rect", element("title", label), x=left + 0.5, y=min(top, bottom - 1), width=max(1.0, right - left - 1.0),
        height=max(1.0, bottom - top), class_=f"bar-{kind}",
    )  # fmt: skip


def _log_axis(x: Scale, y: float) -> Iterator[Markup]:
    for level in decades(x.least, x.most):
        if x.least <= level <= x.most:
            here = x(level)
            yield element("line", x1=here, x2=here, y1=y, y2=y + 4, class_="axis")
            edge = "end" if here > x.end - 20 else "start" if here < x.start + 8 else "middle"
            yield text(here, y + 18, words.short(level), "tick", edge)


def over_time(result: ReplayResult, on: Scales, width: float, key: str) -> Markup:
    """Changes, work, queue wait and convergence per interval of the recording."""
    x = Scale(on.began, on.ended, LEFT, width - RIGHT)
    line = result.timeline
    parts: list[Markup] = [text(LEFT, HEAD - 9, f"Changes in {words.seconds(line.step_seconds)}", "panel")]
    parts += _changes(line, x, HEAD, upper(on.changes))
    y = HEAD + PANEL + GAP
    for kind, title, of in TIMES:
        top = y + HEAD
        parts += [text(LEFT, top - 9, title, "panel"), *_times(line, of, kind, x, top, on.peaks[kind])]
        y = top + PANEL + GAP
    bottom = y - GAP
    parts += _time_axis(x, bottom, 4 if width < NARROW else 10)
    intervals = plural(len(line.stretches), "interval")
    about = f"{intervals} of the recording's time with at least one sync."
    return picture(key, width, bottom + FOOT, f"Syncs over time, mode {result.engine.mode}", about, parts)


def _changes(line: Timeline, x: Scale, top: float, most: float) -> Iterator[Markup]:
    y = Scale(0, most, top + PANEL, top)
    yield from _levels(((level, words.level(level)) for level in (0, most / 2, most)), y, x)
    for each in line.stretches:
        if each.changes:
            counted = f"{plural(each.changes, 'change')} in {plural(each.syncs, 'sync')}"
            label = f"{words.clock(each.at_seconds)}: {counted}"
            yield _stretch(each, line, x, y(each.changes), y(0), label, "changes")


def _times(
    line: Timeline, of: Callable[[TimelineInterval], float], kind: str, x: Scale, top: float, peak: float
) -> Iterator[Markup]:
    if not peak:
        yield text((x.start + x.end) / 2, top + PANEL / 2, "none", "note", "middle")
        return
    known = [of(each) for each in line.stretches if of(each) > 0]
    levels = decades(max(_LEAST_SECONDS, min(known, default=peak)), peak)
    y = Scale(levels[0], levels[-1], top + PANEL, top, log=True)
    yield from _levels(((level, words.short(level)) for level in levels), y, x)
    for each in line.stretches:
        if (seconds := of(each)) > 0:
            label = f"{words.clock(each.at_seconds)}: {words.short(seconds)}"
            yield _stretch(each, line, x, y(seconds), y.start, label, kind)


def _stretch(
    each: TimelineInterval, line: Timeline, x: Scale, top: float, bottom: float, label: str, kind: str
) -> Markup:
    at = each.at_seconds
    return _bar(x(at), x(at + line.step_seconds), top, bottom, label, kind)


def _levels(levels: Iterable[tuple[float, str]], y: Scale, x: Scale) -> Iterator[Markup]:
    for level, words_ in levels:
        here = y(level)
        yield element("line", x1=x.start, x2=x.end, y1=here, y2=here, class_="grid")
        yield text(x.start - 6, here + 3.5, words_, "tick", "end")


def _time_axis(x: Scale, y: float, count: int) -> Iterator[Markup]:
    for tick in time_ticks(x.least, x.most, count):
        here = x(tick)
        yield element("line", x1=here, x2=here, y1=y, y2=y + 4, class_="axis")
        label = f"{tick:g} s" if x.most < 120 else words.minutes(tick)
        yield text(here, y + 18, label, "tick", "end" if here > x.end - 14 else "middle")
