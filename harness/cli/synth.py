"""`harness synth`: write a synthetic recording."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.events import Event
from harness.synth import Options, generate

EXAMPLES = """\b
Examples:
  harness synth big.jsonl
  harness synth demo.jsonl --services 41 --churn 200 --nodes 6 --seed 7
  harness synth huge.jsonl.zst --services 100000 --endpoints 10 --nodes 5000
  harness synth dual.jsonl --services 500 --nodes 20 --dual-stack
"""

REPORT_EVERY = 500
"""Events between two updates of the progress display, which costs more than an event does."""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@click.option("--services", default=10_000, show_default=True, help="Services in the initial list.")
@click.option("--endpoints", type=int, help="Endpoints of every Service.  [default: a long tail, 0 to 250]")
@click.option("--churn", default=5_000, show_default=True, help="Events after the initial list.")
@click.option("--nodes", default=500, show_default=True, help="Nodes; one is lost during the churn.")
@click.option("--zones", default=3, show_default=True, help="Zones the nodes are spread over.")
@click.option("--dual-stack", is_flag=True, help="IPv4 and IPv6 addresses, and a slice for each.")
@click.option("--seed", default=1, show_default=True, help="Equal seeds and options give equal bytes.")
def synth(
    out: Path,
    services: int,
    endpoints: int | None,
    churn: int,
    nodes: int,
    zones: int,
    dual_stack: bool,
    seed: int,
) -> None:
    """Write a made-up cluster's recording to OUT (.jsonl, or .jsonl.zst compressed).

    It starts with the initial list of nodes, Services and EndpointSlices, and goes on with about
    ten minutes of churn: rolling updates, probe flaps, scaling, Services that come, change and go,
    and a lost node.
    """
    try:
        options = Options(services, endpoints, churn, nodes, zones, dual_stack, seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    count = _write(out, options)
    size = out.stat().st_size / 1_000_000
    click.echo(f"{out}: {count} events, {churn} of them churn, {size:.1f} MB, seed {seed}")


def _write(out: Path, options: Options) -> int:
    """Write the recording, with progress when stderr is a terminal; returns how many events it has.

    Raises click.ClickException when the file cannot be written or the addresses run out.
    """
    # Here, so that --help does not load the writer.
    from harness.recording import write_recording

    head, events = generate(options)
    counter = _Counter()
    try:
        with _progress() as progress:
            write_recording(out, head, counter.watch(events, progress))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{out}: {error}") from error
    return counter.count


def _progress() -> Progress:
    """A progress display on stderr, silent unless that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


class _Counter:
    """Counts the events that pass."""

    def __init__(self) -> None:
        """Nothing has passed."""
        self.count = 0

    def watch(self, events: Iterable[Event], progress: Progress) -> Iterator[Event]:
        """`events` unchanged; the total is not known before the end, so none is shown."""
        task = progress.add_task("events", total=None)
        for event in events:
            self.count += 1
            if self.count % REPORT_EVERY == 0:
                progress.update(task, completed=self.count)
            yield event
