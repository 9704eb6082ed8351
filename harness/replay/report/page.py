"""Renders one replay, or several side by side, as an HTML file.

results -> Column (plain values and charts, one per mode) -> the template beside this module
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

from markupsafe import Markup
from msgspec import UNSET

from harness.html import words
from harness.html.page import NARROW, WIDE, Pictures, render
from harness.judge.oracle.differences import Difference
from harness.replay.compare.result import Changes, Comparison, ModeRun, Upgrade
from harness.replay.report import outside, pictures
from harness.replay.report.comparison import ROWS, change_of, kernel_of, number_of
from harness.replay.report.terminal import OWN, between, headline, sources
from harness.replay.result import ReplayResult
from harness.wording import plural

MOST_DIFFERENCES = 40
MEANINGS = {
    True: "The kernel matched the recording, and all given limits were met.",
    False: "At least one objective was not met.",
    None: "The run neither proved nor disproved all objectives.",
}
GLOSSARY = (
    ("sync", "One round of the engine: pending changes become a program, which is applied to the kernel."),
    (
        "compute + apply",
        "From the start of a change's sync to its rules being live in the kernel, without waiting time.",
    ),
    ("queue wait", "Time that a change waited, when due, for the previous sync to end."),
    (
        "minSyncPeriod",
        "The minimum time between two syncs. Changes in between wait for the next sync.",
    ),
    ("convergence", "From the event to its rules being live, including all waiting time, on the recording's clock."),
    ("digest", "A checksum of everything sent to the kernel; the same recording and options give the same digest."),
    (
        "verified",
        "The kernel's state was read back and real packets were sent; both agreed with an independent oracle.",
    ),
)


class Column(NamedTuple):
    """One replay: `name` distinguishes it from the others on the page."""

    name: str
    headline: str
    value: bool | None
    objectives: tuple[tuple[str, bool | None, str, str], ...]
    figures: tuple[tuple[str, str, str], ...]
    spread: Pictures | None
    over_time: Pictures | None
    pacing: str
    sources: tuple[str, ...]
    not_checked: tuple[str, ...]
    digest: str


class ReportPage(NamedTuple):
    """Everything that the template renders."""

    title: str
    line: str
    value: bool | None
    meaning: str
    problems: tuple[str, ...]
    columns: tuple[Column, ...]
    figures: tuple[tuple[str, tuple[str, ...]], ...]
    differences: tuple[Difference, ...] | None
    environment: tuple[tuple[str, str], ...]
    command: str
    outside: outside.FigureTable | None = None


def replay_page(result: ReplayResult, command: str) -> str:
    """The document of one replay; `command` reproduces it."""
    return _document(_page([ModeRun(result.engine.mode, 0, "", result)], None, command, "Replay of"))


def comparison_page(comparison: Comparison, command: str) -> str:
    """The document of a comparison of modes."""
    page = _page(comparison.modes, comparison.differences, command, "Modes side by side:")
    if comparison.external is UNSET:
        return _document(page)
    found = outside.table(comparison.modes, comparison.external)
    wrong = tuple(
        f"{run.name} in mode {run.mode}: {run.state}: {run.reason}" for run in comparison.external if run.exit_code
    )
    value = False if wrong else page.value
    page = page._replace(problems=(*page.problems, *wrong), value=value, meaning=MEANINGS[value], outside=found)
    return _document(page)


def upgrade_page(comparison: Upgrade, command: str) -> str:
    """The document of what each Kubernetes version changes."""
    return render("harness.replay.report", "upgrade.html.j2", comparison=comparison, command=command)


def changes_page(found: Changes, command: str) -> str:
    """The document of two saved results."""
    return render(
        "harness.replay.report", "changes.html.j2", found=found, command=command, number=number_of, change=change_of
    )


def _document(page: ReportPage) -> str:
    return render("harness.replay.report", "replay.html.j2", page=page, glossary=GLOSSARY)


def _page(runs: Sequence[ModeRun], differences: list[Difference] | None, command: str, about: str) -> ReportPage:
    results = [run.result for run in runs if run.result]
    on = pictures.scales(results)
    width = WIDE if len(results) < 2 else max(NARROW, (WIDE - 16 * (len(results) - 1)) // len(results))
    columns = tuple(_column(run.mode, run.result, on, width, n) for n, run in enumerate(runs) if run.result)
    problems = tuple(_problems(runs))
    values = [column.value for column in columns] + [None for run in runs if not run.result]
    value = False if False in values else None if None in values else True
    return ReportPage(
        f"{about} {_source(results)}" if results else about.removesuffix(":"),
        _line(results),
        value,
        MEANINGS[value],
        problems,
        columns,
        tuple((name, tuple(figure(r) for r in results)) for name, figure in ROWS),
        None if differences is None else tuple(differences),
        tuple((column.name, column.headline) for column in columns),
        command,
    )


def _source(results: Sequence[ReplayResult]) -> str:
    path = results[0].recording.path
    return words.clean(PurePath(path).name if "://" not in path else path, 120)


def _line(results: Sequence[ReplayResult]) -> str:
    if not results:
        return ""
    recording = results[0].recording
    return (
        f"{recording.services:,} Services · {recording.endpoints:,} endpoints · {recording.events:,} events"
        f" · {plural(results[0].change.count, 'change')} with an effect on the rules"
    )


def _column(mode: str, result: ReplayResult, on: pictures.Scales, width: float, number: int) -> Column:
    some = bool(result.change.count)
    objectives = tuple(_objectives(result))
    values = [value for _, value, _, _ in objectives]
    return Column(
        mode,
        headline(result),
        False if False in values else None if None in values or not values else True,
        objectives,
        tuple(_figures(result)),
        _drawn(pictures.histogram, result, on, width, f"spread-{number}") if some else None,
        _drawn(pictures.over_time, result, on, width, f"time-{number}") if some else None,
        _pacing(result),
        tuple(f"{line[0].upper()}{line[1:]}." for line in (sources(result.change), between(result.between_syncs))),
        tuple(words.clean(line) for line in result.verification.not_checked),
        result.digest,
    )


Draw = Callable[[ReplayResult, pictures.Scales, float, str], Markup]


def _drawn(draw: Draw, result: ReplayResult, on: pictures.Scales, width: float, key: str) -> Pictures:
    return Pictures(*(draw(result, on, each, f"{key}-{name}") for name, each in (("wide", width), ("narrow", NARROW))))


def _objectives(result: ReplayResult) -> Iterator[tuple[str, bool | None, str, str]]:
    """Name, verdict, limit, and figure or reason."""
    for each in result.objectives:
        limit, figure = _value(each.limit), _value(each.figure)
        of = f", {plural(each.samples, 'sample')}" if each.samples > 1 else ""
        yield each.name, None if each.verdict == "unknown" else each.verdict, limit, each.why or f"{figure}{of}"


def _value(value: object) -> str:
    """A limit or figure as text: seconds, a digest, or a dash."""
    return words.short(value) if isinstance(value, int | float) else str(value or words.NOTHING)


def _figures(result: ReplayResult) -> Iterator[tuple[str, str, str]]:
    change, initial = result.change, result.initial
    for name, of in OWN.items():
        summary = of(change)
        if name != "conntrack" and summary:
            about = f"median {words.short(summary['p50'])}"
            if name == "queue wait":
                about = f"{change.queued:,} of {plural(change.count, 'change')} waited"
            yield f"{name}, p99", words.short(summary["p99"]), about
    yield (
        "initial convergence",
        words.short(initial.seconds),
        f"of which apply {words.short(initial.apply_seconds)}",
    )
    if whole := change.convergence_seconds:
        yield (
            "convergence, p99",
            words.short(whole["p99"]),
            f"including waiting time; median {words.short(whole['p50'])}",
        )


def _pacing(result: ReplayResult) -> str:
    pacing, period = result.change.pacing_seconds, result.engine.min_sync_period_seconds
    if not pacing:
        return "No change reached the kernel."
    if not period:
        return "minSyncPeriod is 0: changes do not wait for a sync to be due."
    return (
        f"Of the convergence time, minSyncPeriod {period:g} s accounts for {words.short(pacing['p50'])} (median)"
        f" and up to {words.short(pacing['max'])} of waiting, independent of the engine's speed."
    )


def _problems(runs: Sequence[ModeRun]) -> Iterator[str]:
    for run in runs:
        result, mode = run.result, run.mode
        if result is None:
            yield f"{mode}: no figures: {run.reason}"
            continue
        for each in result.objectives:
            if each.verdict is not True:
                yield f"{mode}: {each.name}: {each.why}"
        left = len(result.differences) - MOST_DIFFERENCES
        yield from (f"{mode}: {line}" for line in result.differences[:MOST_DIFFERENCES])
        if left > 0:
            yield f"{mode}: and {left:,} more differences"
    kernels = {kernel_of(run.result) for run in runs if run.result}
    if len(kernels) > 1:
        yield "The modes ran in different kernels: compare times only between modes of the same kernel."
