"""Saved results in `harness compare`: two results, or one as a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.output import this_command, write_json, write_text
from harness.exit_codes import EXIT_GATE, EXIT_UNKNOWN

if TYPE_CHECKING:
    from rich.console import Console

    from harness.replay.compare.result import Changes, ModeRun
    from harness.replay.compare.saved import SavedResults


def saved(path: str) -> SavedResults:
    """A saved result; exits with 2 if the file is not one."""
    from harness.replay.compare.saved import read_saved

    return read_saved(path)


def measured(runs: list[ModeRun]) -> SavedResults:
    """The results of this command, to be compared with saved ones."""
    from harness.replay.compare.saved import of_runs

    return of_runs("now", runs)


def compare_results(
    before: SavedResults, after: SavedResults, console: Console, outputs: tuple[str | None, str | None]
) -> Changes:
    """Print two results side by side and write them as JSON and HTML; exits with 2 if they are not comparable."""
    from harness.replay.compare.saved import changes
    from harness.replay.report.comparison import print_changes
    from harness.replay.report.page import changes_page

    found = changes(before, after)
    print_changes(found, console)
    json_path, html_path = outputs
    write_json(found, json_path)
    if html_path:
        write_text(changes_page(found, this_command()), html_path)
    return found


def gate_code(found: Changes, max_worse: float | None) -> int:
    """0, or the exit code of `--max-worse` if a figure failed it, or there was none to judge."""
    if max_worse is None:
        return 0
    judged = [(each, each.change_percent) for each in found.figures if each.judged and each.change_percent is not None]
    worse = [(each, percent) for each, percent in judged if percent > max_worse]
    for each, percent in worse:
        click.echo(f"gate: --max-worse {max_worse:g} %: {each.mode}: {each.name} {percent:+.1f} %", err=True)
    if not judged:
        click.echo(f"unknown: --max-worse {max_worse:g} %: the results have no figure in common", err=True)
    return EXIT_GATE if worse else 0 if judged else EXIT_UNKNOWN
