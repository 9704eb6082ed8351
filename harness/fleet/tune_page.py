"""Renders a sweep of minSyncPeriod as a self-contained HTML page."""

from __future__ import annotations

from harness.fleet import pictures
from harness.fleet.result import Sweep
from harness.fleet.terminal import SWEEP, knee_line, sweep_headline, sweep_rows
from harness.html.page import NARROW, WIDE, Pictures, render

GLOSSARY = (
    ("minSyncPeriod", "The time that a proxy waits at least between two syncs."),
    ("convergence", "From a change to its rules being live, on the recording's clock, with all waiting."),
    ("for nothing", "Syncs that a change asked for, but that sent nothing to the kernel."),
    ("knee", "The value beyond which waiting longer saves little; it depends on the values tried."),
)


def tune_page(result: Sweep, command: str) -> str:
    """The document; `command` measures it again."""
    points = result.points
    charts = (pictures.sweep(points, width, f"sweep-{name}") for width, name in ((WIDE, "wide"), (NARROW, "narrow")))
    return render(
        "harness.fleet", "tune.html.j2",
        headline=sweep_headline(result), knee=knee_line(result), sweep=Pictures(*charts), columns=SWEEP[:-1],
        rows=[(row[:-1], each.knee) for row, each in zip(sweep_rows(result), points, strict=True)],
        glossary=GLOSSARY, command=command,
    )  # fmt: skip
