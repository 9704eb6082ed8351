"""The effects of each fault: readiness lost, slices changed, each kernel's convergence, last failed request.  Pure.

Findings and width -> SVG: one row per fault; the x axis is the time since it began.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from chaos.verdict.findings import Finding, trouble_of
from harness.html import words
from harness.html.scales import Scale, time_ticks
from harness.html.svg import element, path, picture, text

HEAD, ROW, FOOT = 8.0, 26.0, 26.0


def draw(findings: Sequence[Finding], healed: dict[int, float], width: int, key: str) -> Markup:
    """`healed` maps a fault's number to its duration; `key` makes ids unique in the page."""
    left = 132.0 if width < 600 else 168.0
    longest = max([1.0, *(time for f in findings for time in _times(f)), *healed.values()])
    x = Scale(0, longest, left, width - 14.0)
    bottom = HEAD + ROW * len(findings)
    parts = [*_axis(x, bottom, 3 if width < 600 else 9)]
    for n, finding in enumerate(findings):
        parts.append(_row(finding, healed.get(finding.number, 0.0), x, HEAD + n * ROW))
    about = "One row per fault; the following table contains the same figures."
    return picture(key, width, bottom + FOOT, "Effects of each fault, in seconds since it began", about, parts)


def _times(finding: Finding) -> Iterator[float]:
    known = (finding.readiness_lost_seconds, finding.slices_changed_seconds, finding.last_failure_seconds)
    yield from (time for time in (*known, *finding.nodes_followed.values()) if time is not None)


def _axis(x: Scale, bottom: float, count: int) -> Iterator[Markup]:
    for tick in time_ticks(0, x.most, count):
        here = x(tick)
        yield element("line", x1=here, x2=here, y1=HEAD, y2=bottom, class_="grid")
        yield text(here, bottom + 17, f"{tick:g} s", "tick", "middle" if here < x.end - 12 else "end")


def _row(finding: Finding, lasted: float, x: Scale, top: float) -> Markup:
    middle = top + ROW / 2
    lasting = element(
        "rect", element("title", f"in force for {words.seconds(lasted)}"),
        x=x(0), y=middle - 5, width=max(1.0, x(lasted) - x(0)), height=10.0, rx=3, class_="lasting",
    )  # fmt: skip
    return element(
        "g",
        element("line", x1=x.start, x2=x.end, y1=top + ROW, y2=top + ROW, class_="grid"),
        text(22, middle + 4, str(finding.number), "tick", "end"),
        text(30, middle + 4, words.clean(finding.fault, 24), "name"),
        lasting,
        *_marks(finding, x, middle),
        class_=f"row{' unsound' if trouble_of(finding) else ''}",
        data_fault=finding.number,
    )


def _marks(finding: Finding, x: Scale, y: float) -> Iterator[Markup]:
    kernels = [time for time in finding.nodes_followed.values() if time is not None]
    if kernels:
        each = ", ".join(f"{words.clean(n, 40)} {words.seconds(t, 'never')}" for n, t in finding.nodes_followed.items())
        first, last = x(min(kernels)), x(max(kernels))
        yield element(
            "rect", element("title", f"kernels converged: {each}"),
            x=first - 2, y=y - 8, width=last - first + 4, height=16.0, rx=2, class_="kernels",
        )  # fmt: skip
    if finding.slices_changed_seconds is not None:
        here = x(finding.slices_changed_seconds)
        title = f"slices changed after {words.seconds(finding.slices_changed_seconds)}"
        yield element("rect", element("title", title), x=here - 3, y=y - 3, width=6.0, height=6.0, class_="slices")
    if finding.readiness_lost_seconds is not None:
        here = x(finding.readiness_lost_seconds)
        shape = path([(here - 4, y - 9), (here + 4, y - 9), (here, y - 2)]) + "Z"
        title = f"readiness lost after {words.seconds(finding.readiness_lost_seconds)}"
        yield element("path", element("title", title), d=shape, class_="unready")
    if finding.last_failure_seconds is not None:
        here = x(finding.last_failure_seconds)
        cross = path([(here - 4, y - 4), (here + 4, y + 4)]) + path([(here - 4, y + 4), (here + 4, y - 4)])
        title = f"last failed request sent after {words.seconds(finding.last_failure_seconds)}; {finding.lost:,} lost"
        yield element("path", element("title", title), d=cross, class_="last-lost")
