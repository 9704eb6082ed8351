"""`harness inspect`: summarizes a recording, or prints the cluster's state at a point in it."""

from __future__ import annotations

import sys
from typing import NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table

from harness.cli.endings import Ending
from harness.cli.output import output_format, write_json
from harness.cli.position import position
from harness.cli.progress import Progress
from harness.cli.value_completion import files
from harness.log import Recording, RecordingError, open_source
from harness.log.positions import Position
from harness.log.state import state_at
from harness.log.summary import Summary, summarize

EXAMPLES = """\b
Examples:
  harness inspect recordings/demo.jsonl
  harness inspect recordings/demo.jsonl --at 120 > state.json
  kubectl get services,endpointslices,nodes -A -o json | harness inspect - --json
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.option("--at", type=position, help="Print the cluster's state after this seq, or at this time (90s).")
@output_format
@click.option("--json", "as_json", is_flag=True, help="Print JSON; times are in nanoseconds.")
def inspect(source: str, at: Position | None, as_json: bool) -> None:
    """Show what a recording or dump contains.

    SOURCE is a recording, kubectl's JSON output, or - for standard input.

    With --at, print a Kubernetes List of the objects that exist after that event instead; this output
    can itself be used as a SOURCE.  Exits with 2 if SOURCE cannot be read.
    """
    try:
        with open_source(source) as recording, Progress("reading"):
            _show(recording, at, as_json)
    except RecordingError as error:
        _fail(str(error))
    except LookupError as error:
        _fail(f"{source}: {error.args[0]}")


def _show(recording: Recording, at: Position | None, as_json: bool) -> None:
    if at is not None:
        _print_json(state_at(recording, at).listing())
        return
    summary = summarize(recording)
    if as_json:
        _print_json(summary)
    else:
        # Wide enough not to wrap when the output is not a terminal.
        Console(width=None if sys.stdout.isatty() else 200).print(_table(summary))


def _fail(message: str) -> NoReturn:
    raise Ending(message, 2, prefix="")


def _print_json(value: object) -> None:
    write_json(msgspec.json.decode(msgspec.json.encode(value)), "-")


def _table(summary: Summary) -> Table:
    table = Table(title=summary.path, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in summary.header.items():
        table.add_row(name, _text(value))
    table.add_section()
    for resource, types in summary.counts.items():
        table.add_row(resource, ", ".join(f"{count:,} {kind}" for kind, count in types.items()))
    services = ", ".join(f"{count:,} {kind}" for kind, count in summary.services.items())
    table.add_row("Services at the end", services or "none")
    table.add_row(
        "endpoints",
        f"{summary.endpoints_initial:,} after the initial list, {summary.endpoints_end:,} at the end",
    )
    table.add_section()
    for name, value in _timing(summary).items():
        table.add_row(name, value)
    return table


def _timing(summary: Summary) -> dict[str, str]:
    rate = "no time passes" if summary.rate is None else f"{summary.rate:.3g}/s after the initial list"
    return {
        "events": f"{summary.events:,}",
        "duration": f"{summary.duration / 1e9:,.3f} s",
        "event rate": rate,
        "largest gap": f"{summary.largest_gap / 1e9:,.3f} s",
        "sha256": summary.sha256,
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
