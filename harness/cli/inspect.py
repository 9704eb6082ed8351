"""`harness inspect`: what is in a recording, or the cluster's state at a point of it."""

from __future__ import annotations

import sys

import click
import msgspec
from rich.console import Console
from rich.table import Table

from harness.recording import Recording, RecordingError, open_source
from harness.recording.state import state_at
from harness.recording.summary import Summary, summarize

EXAMPLES = """\b
Examples:
  harness inspect recordings/demo.jsonl
  harness inspect recordings/demo.jsonl --at 120 > state.json
  kubectl get services,endpointslices,nodes -A -o json | harness inspect - --json
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.option("--at", type=int, metavar="SEQ", help="Print the cluster's state right after this event.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON; times in nanoseconds.")
def inspect(source: str, at: int | None, as_json: bool) -> None:
    """Show what is in SOURCE: a recording, kubectl's JSON output, or - for standard input.

    With --at, print a Kubernetes List of the objects there are after that event instead. It is a
    SOURCE itself. Exits with 2 when SOURCE cannot be read.
    """
    try:
        with open_source(source) as recording:
            _show(recording, at, as_json)
    except RecordingError as error:
        _fail(str(error))
    except LookupError as error:
        _fail(f"{source}: {error.args[0]}")


def _show(recording: Recording, at: int | None, as_json: bool) -> None:
    if at is not None:
        _print_json(state_at(recording, at).listing())
        return
    summary = summarize(recording)
    if as_json:
        _print_json(summary)
    else:
        # Nothing wraps where there is no terminal whose width counts.
        Console(width=None if sys.stdout.isatty() else 200).print(_table(summary))


def _fail(message: str) -> None:
    click.echo(message, err=True)
    sys.exit(2)


def _print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


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
