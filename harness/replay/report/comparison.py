"""Prints comparisons as text."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET
from rich.console import Console
from rich.table import Table

from harness.judge.oracle.differences import Difference
from harness.replay.compare.result import Changes, Comparison, ModeRun, OutsideRun, Upgrade, UpgradeRow
from harness.replay.report import outside
from harness.replay.report.fitting import print_table
from harness.replay.report.terminal import PLACES
from harness.replay.result import Percentiles, ReplayResult, Verdict
from harness.wording import plural

ROWS: tuple[tuple[str, Callable[[ReplayResult], str]], ...] = (
    ("compute + apply p50, ms", lambda r: _milliseconds(r.change.work_seconds, "p50")),
    ("compute + apply p99, ms", lambda r: _milliseconds(r.change.work_seconds, "p99")),
    ("queue wait p99, ms", lambda r: _milliseconds(r.change.queue_seconds, "p99")),
    ("initial convergence, s", lambda r: f"{r.initial.seconds:,.3f}"),
    ("  of it compute", lambda r: f"{r.initial.compute_seconds:,.3f}"),
    ("  of it apply", lambda r: f"{r.initial.apply_seconds:,.3f}"),
    ("change converged p50, ms", lambda r: _milliseconds(r.change.convergence_seconds, "p50")),
    ("change converged p99, ms", lambda r: _milliseconds(r.change.convergence_seconds, "p99")),
    ("syncs", lambda r: f"{r.syncs:,}"),
    ("operations", lambda r: f"{r.operations:,}"),
    ("MiB sent", lambda r: f"{r.bytes / 2**20:,.1f}"),
    ("peak memory, MiB", lambda r: f"{r.peak_rss_bytes / 2**20:,.0f}"),
    ("verified", lambda r: outside.VERIFIED[r.verified]),
    ("kernel", lambda r: kernel_of(r)),
)
"""Name of a figure, and how it is computed from the result of a replay."""


SHOWN_ALIKE = 5
"""Maximum rows printed per identical change; the JSON form has all."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print one table of all modes, the problems found, and where the modes behave differently."""
    runs = comparison.modes
    if comparison.external is not UNSET:
        _print_outside(comparison, comparison.external, console)
    elif not any(run.result for run in runs):
        _print_no_figures(runs, console)
    else:
        _print_figures(comparison, console)
    if comparison.differences is not None:
        _print_differences(comparison.differences, [run.mode for run in runs], console)


def _print_no_figures(runs: list[ModeRun], console: Console) -> None:
    """Print each reason once, as usually all modes have the same."""
    for reason in dict.fromkeys(run.reason for run in runs):
        modes = ", ".join(run.mode for run in runs if run.reason == reason)
        console.print(f"{modes}: no figures: {reason}", highlight=False, soft_wrap=True, markup=False)


def _print_figures(comparison: Comparison, console: Console) -> None:
    runs = comparison.modes
    table = Table(title=_title(comparison), title_justify="left", box=None)
    table.add_column("")
    for run in runs:
        table.add_column(run.mode, justify="right")
    for name, figure in ROWS:
        table.add_row(name, *(figure(run.result) if run.result else "-" for run in runs))
    print_table(table, console)
    for line in _remarks(runs):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _print_outside(comparison: Comparison, proxies: list[OutsideRun], console: Console) -> None:
    """The modes and every proxy in one table."""
    found = outside.table(comparison.modes, proxies)
    table = Table(title=_title(comparison), title_justify="left", box=None)
    table.add_column("")
    for mode, whose in found.columns:
        table.add_column(f"{mode}\n{whose}", justify="right")
    for name, cells in found.rows:
        table.add_row(name, *cells)
    print_table(table, console)
    for line in [*_remarks(comparison.modes), *found.remarks]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def print_upgrade(comparison: Upgrade, console: Console) -> None:
    """Print what each version changes, one row per destination."""
    steps = " to ".join(comparison.kube_versions)
    title = f"{comparison.source}: from kube-proxy {steps}, in {', '.join(comparison.modes)}"
    if not comparison.changes:
        console.print(f"{title}: nothing changes for this cluster.", highlight=False, markup=False)
        return
    table = Table(title=title, title_justify="left", box=None)
    for column in ("mode", "since", "Service", "where", "before", "after"):
        table.add_column(column, overflow="fold")
    alike: dict[tuple[str, str, str, str], list[UpgradeRow]] = {}
    for row in comparison.changes:
        alike.setdefault((row.mode, row.since, row.before, row.after), []).append(row)
    for (mode, since, before, after), rows in alike.items():
        for row in rows[:SHOWN_ALIKE]:
            table.add_row(mode, since, row.service, row.where, before, after)
        if len(rows) > SHOWN_ALIKE:
            table.add_row(mode, since, "", f"and {len(rows) - SHOWN_ALIKE:,} more places", before, after)
    print_table(table, console)


def print_changes(found: Changes, console: Console) -> None:
    """Print two saved results side by side, and remarks on their comparability."""
    modes = list(dict.fromkeys(each.mode for each in found.figures))
    title = f"before: {found.before}, after: {found.after}"
    console.print(title, highlight=False, markup=False, soft_wrap=not console.is_terminal)
    table = Table(box=None)
    for column in ([] if len(modes) == 1 else ["mode"]) + ["figure"]:
        table.add_column(column, overflow="fold")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right", overflow="fold")
    for each in found.figures:
        name = f"{each.name}, {each.unit}" if each.unit else each.name
        figures = (number_of(value, each.unit) for value in (each.before, each.after))
        table.add_row(*([] if len(modes) == 1 else [each.mode]), name, *figures, change_of(each.change_percent))
    print_table(table, console)
    for line in found.remarks:
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def number_of(value: float | None, unit: str) -> str:
    """A figure formatted by its unit."""
    if value is None:
        return "-"
    return f"{value:,.3f}" if unit in ("s", "%") else f"{value:,.2f}" if unit else f"{value:,}"


def change_of(percent: float | None) -> str:
    """`+12.3 %`."""
    return "-" if percent is None else f"{percent:+,.1f} %"


def line_of(run: ModeRun) -> str:
    """One line with a mode's figures, printed when its run ends."""
    result = run.result
    if result is None:
        return f"{run.mode}: no figures: {run.reason}"
    verified: dict[Verdict, str] = {True: "verified", False: "NOT VERIFIED", "unknown": "unknown"}
    return (
        f"{run.mode}: compute + apply p99 {_milliseconds(result.change.work_seconds, 'p99')} ms, queue wait p99"
        f" {_milliseconds(result.change.queue_seconds, 'p99')} ms, initial {result.initial.seconds:,.3f} s,"
        f" {verified[result.verified]}"
    )


def kernel_of(result: ReplayResult) -> str:
    """Where a replay ran: the kernel's release and the kind of environment."""
    kernel = result.kernel
    return f"{kernel['release']}, {kernel['kind']}" if "release" in kernel else PLACES[kernel["kind"]]


def _title(comparison: Comparison) -> str:
    found = next((run.result for run in comparison.modes if run.result), None)
    if found is None:
        return comparison.source
    recording = found.recording
    return (
        f"{comparison.source}: {plural(recording.services, 'Service')},"
        f" {plural(recording.endpoints, 'endpoint')}, {plural(found.change.count, 'change')}"
    )


def _remarks(runs: list[ModeRun]) -> list[str]:
    lines = [f"{run.mode}: no figures: {run.reason}" for run in runs if run.result is None]
    for run in runs:
        if run.result and run.exit_code:
            lines.append(f"{run.mode}: {run.reason}")
            lines += [f"  {line}" for line in run.result.differences[:5]]
    kernels = {kernel_of(run.result) for run in runs if run.result}
    if len(kernels) > 1:
        lines.append(
            "The modes ran in DIFFERENT KERNELS: compare times only between modes of the same kernel"
            " (--kernel vm runs all modes in one)."
        )
    return lines


def _milliseconds(summary: Percentiles | None, percentile: str) -> str:
    return f"{summary[percentile] * 1e3:,.2f}" if summary else "-"


def _print_differences(differences: list[Difference], modes: list[str], console: Console) -> None:
    if not differences:
        console.print("The modes behave identically on this recording.")
        return
    table = Table(title="differences in behaviour, at the end of the recording", title_justify="left", box=None)
    for column in ("rule", "subject", *modes, "count", "example"):
        table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
    for row in differences:
        cells = (row.by_mode.get(mode, "") for mode in modes)
        table.add_row(row.id, row.what, *cells, f"{row.count:,}", row.example)
    print_table(table, console)
