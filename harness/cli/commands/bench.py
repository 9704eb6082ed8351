"""`harness bench`: benchmarks with gates, of our proxies and others."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from harness.cli.options import duration
from harness.cli.output import OutputPath, output_format, this_command, write_json, write_text
from harness.cli.progress import Progress
from harness.cli.verbosity import asked
from harness.cli.vm import KernelChoice, folder_of, run_in_vm_if_needed
from harness.exit_codes import EXIT_INPUT, EXIT_SLOWER, EXIT_UNKNOWN
from harness.kube.proxy import CommandError, commands

if TYPE_CHECKING:  # imported late, so that help is quick
    from harness.bench.baseline import Baseline
    from harness.bench.campaign import Campaign
    from harness.bench.history import HistoryLine
    from harness.bench.measure import Subjects
    from harness.bench.result import BenchResult
    from harness.bench.rows import BenchRow
    from harness.bench.run import Report
    from harness.bench.samples import Record

EXAMPLES = """\b
Examples:
  harness bench --profile quick
  harness bench --profile nightly --history history.jsonl --fail-on 10 --html bench.html
  harness bench --baseline ../main --fail-on 10 --markdown comment.md
  harness bench --external kp='kube-proxy --config={config}'
  harness bench --external new='./new --config={config}' --external old='./old --config={config}' --baseline old
  harness bench --rows 'nftables-*-steady-engine' -- --benchmark-save=today --benchmark-columns=median,iqr
  harness bench --profile full --list
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--profile", type=click.Choice(["quick", "nightly", "full"]), default="quick", show_default=True,
    help="Rows: under 5 minutes, under an hour, or many hours, on two idle cores.",
)  # fmt: skip
@click.option(
    "--rows", "patterns", multiple=True, metavar="PATTERN", help="Only these of its rows, or a row by its id."
)
@click.option(
    "--kernel", type=KernelChoice("netns", "vm"), default="netns", show_default=True,
    help="Where all rows run: namespaces of this kernel, or of a virtual machine's, which has every mode.",
)  # fmt: skip
@click.option("--modes", default="", metavar="MODES", help="Only these modes, comma-separated.")
@click.option(
    "--external", multiple=True, metavar="NAME=COMMAND", help="Also measure this proxy; see `harness compare --help`."
)
@click.option(
    "--starts",
    type=click.IntRange(1),
    help="Starts of each proxy per row, by default 2 or 4: more starts give narrower intervals.",
)
@click.option(
    "--give-up",
    default="5m",
    show_default=True,
    help="From outside: timeout of the first sync; a change has a tenth of it.",
)
@click.option(
    "--baseline", metavar="WHERE",
    help="Compare with a checkout or virtual environment (a directory), a Python command that has another version,"
    " a NAME of --external, or a saved result (.json).",
)  # fmt: skip
@click.option(
    "--history",
    "history_path",
    type=click.Path(dir_okay=False),
    help="Append this run to a file, and look for steps in it.",
)
@click.option(
    "--fail-on", type=click.FloatRange(0, min_open=True), metavar="PERCENT",
    help="Gate: exit 7 if a figure has demonstrably grown by more than this.",
)  # fmt: skip
@click.option(
    "--out", "folder", type=click.Path(file_okay=False), default="bench", show_default=True, help="Folder of the run."
)
@click.option("--fresh", is_flag=True, help="Measure all rows again, rather than continue a run that was interrupted.")
@click.option("--list", "listing", is_flag=True, help="List the rows; run none.")
@output_format
@click.option("--json", "json_path", type=OutputPath(), help="Write the result as JSON (- for stdout).")
@click.option("--markdown", "markdown_path", type=OutputPath(), help="Write Markdown for a pull request.")
@click.option("--html", "html_path", type=OutputPath(), help="Write a self-contained HTML page.")
@click.argument("pytest_options", nargs=-1, metavar="[-- PYTEST-BENCHMARK-OPTIONS]")
def bench(
    profile: str,
    patterns: tuple[str, ...],
    kernel: str,
    modes: str,
    external: tuple[str, ...],
    starts: int | None,
    give_up: str,
    baseline: str | None,
    history_path: str | None,
    fail_on: float | None,
    folder: str,
    fresh: bool,
    listing: bool,
    json_path: str | None,
    markdown_path: str | None,
    html_path: str | None,
    pytest_options: tuple[str, ...],
) -> None:
    """Benchmark service proxies, and fail if something got slower.

    Each row is a cluster of some size, a kind of change, a mode and a proxy: our engine in a process of its own, our
    daemon, or any other, measured from outside. Figures are the first sync, the latency of changes, CPU, peak memory,
    rules and elements, and how they grow with the number of Services.

    With --baseline both sides are measured alternately and compared pair by pair; without one, figures are divided by
    those of fixed work measured in between. docs/benchmarks.md describes both. A run that was interrupted continues
    when it is started again.

    Exit codes: 0 success; 1 nothing could be measured; 2 bad input; 6 unknown: the gate had nothing to judge;
    7 a figure has grown by more than --fail-on.
    """
    rows = _rows(profile, patterns, modes, external)
    if listing:
        for row in rows:
            click.echo(f"{row.id}{f'  {row.named}' if row.named else ''}")
        return
    _require_pytest()
    _gate_needs(fail_on, baseline, history_path)
    _in_vm(kernel, folder, (history_path, json_path, markdown_path, html_path), pytest_options)
    subjects = _subjects(external, baseline, duration(give_up) / 1e9, starts)
    before, began = _histories(history_path), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    campaign = _campaign(Path(folder), subjects, fresh)
    records = _run(rows, campaign, subjects, pytest_options)
    found = _result(records, profile, subjects.baseline, began, before, history_path, fail_on)
    campaign.done()
    _show(found, before, json_path, markdown_path, html_path)


def _rows(profile: str, patterns: Sequence[str], modes: str, external: Sequence[str]) -> list[BenchRow]:
    from harness.bench.rows import DAEMON, ENGINE, chosen, parsed, rows_of

    names = [text.partition("=")[0] for text in external]
    rows = rows_of(profile, names, [mode.strip() for mode in modes.split(",") if mode.strip()])
    found = chosen(rows, patterns)
    for pattern in patterns:
        if not chosen(rows, [pattern]):
            try:
                row = parsed(pattern)
            except ValueError as error:
                raise click.BadParameter(
                    f"no row of {profile} matches, and no row: {error}", param_hint="--rows"
                ) from None
            if row.proxy not in (ENGINE, DAEMON, *names):
                raise click.BadParameter(f"{pattern}: no proxy {row.proxy!r}", param_hint="--rows")
            found.append(row)
    if not found:
        raise click.UsageError("no rows are left: see --list")
    return found


def _require_pytest() -> None:
    from harness.cli.endings import Ending
    from harness.extras import missing

    if why := missing("pytest", "pytest_benchmark"):
        raise Ending(why, EXIT_INPUT)


def _gate_needs(fail_on: float | None, baseline: str | None, history_path: str | None) -> None:
    if fail_on and not baseline and not history_path:
        raise click.UsageError("--fail-on needs --baseline or --history to compare with")


def _in_vm(kernel: str, folder: str, outputs: Sequence[str | None], pytest_options: Sequence[str]) -> None:
    """Run in a virtual machine and exit, if `kernel` selects one."""
    if kernel == "netns":
        return
    if pytest_options:
        raise click.UsageError("--kernel vm takes no options for pytest-benchmark")
    Path(folder).mkdir(parents=True, exist_ok=True)
    run_in_vm_if_needed(kernel, "nftables", [], [folder, *map(folder_of, outputs)])


def _subjects(external: tuple[str, ...], where: str | None, give_up_seconds: float, starts: int | None) -> Subjects:
    from harness.bench.baseline import baseline, this_python
    from harness.bench.measure import Subjects

    try:
        found = {each.name: each for each in commands(external)}
    except CommandError as error:
        raise click.BadParameter(str(error), param_hint="--external") from None
    return Subjects(this_python(), baseline(where, found), found, give_up_seconds, starts)


def _histories(path: str | None) -> list[HistoryLine]:
    from harness.bench.history import read

    return read(Path(path)) if path else []


def _campaign(folder: Path, subjects: Subjects, fresh: bool) -> Campaign:
    from harness.bench.campaign import Campaign, CampaignIdentity
    from harness.bench.facts import digest

    identity = CampaignIdentity(
        engine=digest(),
        baseline=subjects.baseline.about,
        starts=subjects.starts,
        commands={name: list(each.words) for name, each in subjects.commands.items()},
    )
    return Campaign(folder, identity, fresh)


def _run(rows: list[BenchRow], campaign: Campaign, subjects: Subjects, options: Sequence[str]) -> list[Record]:
    from harness.bench.run import run, shares

    left, total = shares(rows, campaign)
    if len(left) < len(rows):
        click.echo(f"{campaign.folder}: continuing: {len(rows) - len(left)} of {len(rows)} rows are measured", err=True)
    now: list[str] = [""]
    with Progress("benchmarks, expected seconds", max(1, total), lambda: now[0]) as progress:
        return run(rows, campaign, subjects, _reporter(left, progress, now), options)


def _reporter(left: list[BenchRow], progress: Progress, now: list[str]) -> Report:
    """Reports progress by the weights of the rows measured so far, on which the estimate is based."""
    done = [0]

    def report(what: BenchRow | str, finished: bool) -> None:
        if not finished:
            now[0] = str(what)
        elif not isinstance(what, str) and what in left:
            done[0] += what.weight
            progress.done(done[0])

    return report


def _result(
    records: list[Record],
    profile: str,
    baseline: Baseline,
    began: str,
    before: list[HistoryLine],
    history_path: str | None,
    fail_on: float | None,
) -> BenchResult:
    from harness.bench.facts import facts
    from harness.bench.history import append, line_of
    from harness.bench.summary import result
    from harness.bench.verdict import judge, steps_of

    found = result(records, profile, baseline.about, facts(), began)
    lines = [*before, line_of(found)] if history_path else []
    if history_path:
        append(Path(history_path), lines[-1])
    gate = judge(found, baseline, lines, fail_on)
    return msgspec.structs.replace(found, steps=steps_of(lines), gate=gate)


def _show(
    found: BenchResult,
    before: list[HistoryLine],
    json_path: str | None,
    markdown_path: str | None,
    html_path: str | None,
) -> None:
    from rich.console import Console

    from harness.bench.history import line_of
    from harness.bench.page import page
    from harness.bench.report import markdown, print_result

    to_error = json_path == "-"
    stream = sys.stderr if to_error else sys.stdout
    print_result(found, Console(stderr=to_error, width=None if stream.isatty() else 220, quiet=asked().quiet))
    write_json(found, json_path)
    if markdown_path:
        write_text(markdown(found, this_command()), markdown_path)
    if html_path:
        write_text(page(found, [*before, line_of(found)], this_command()), html_path)
    sys.exit(_code(found))


def _code(found: BenchResult) -> int:
    gate = found.gate
    if gate and gate.passed is False:
        return EXIT_SLOWER
    if not any(row.state == "measured" for row in found.rows):
        return 1
    return EXIT_UNKNOWN if gate and gate.passed == "unknown" else 0
