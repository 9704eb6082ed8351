"""`harness synth`: write a synthetic recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.core import ParameterSource

from harness.cli.output import reported
from harness.cli.progress import Progress
from harness.log.events import Event, Header
from harness.log.synth import SynthOptions, generate
from harness.log.synth import every_rule as fixed_recording
from harness.wording import plural

EXAMPLES = """\b
Examples:
  harness synth big.jsonl
  harness synth demo.jsonl --services 41 --churn 200 --nodes 6 --dual-stack --rich --seed 19
  harness synth huge.jsonl.zst --services 100000 --endpoints 10 --nodes 5000
  harness synth dual.jsonl --services 500 --nodes 20 --dual-stack
  harness synth rules.jsonl --every-rule
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--services", default=10_000, show_default=True, help="Number of Services in the initial list.")
@click.option("--endpoints", type=int, help="Endpoints per Service.  [default: long-tailed, 0 to 250]")
@click.option("--churn", default=5_000, show_default=True, help="Number of events after the initial list.")
@click.option("--nodes", default=500, show_default=True, help="Number of nodes; one is lost during the churn.")
@click.option("--zones", default=3, show_default=True, help="Number of zones that the nodes are spread over.")
@click.option("--dual-stack", is_flag=True, help="IPv4 and IPv6 addresses, with one EndpointSlice for each.")
@click.option(
    "--rich", is_flag=True, help="More Services with special features; with --dual-stack, a third of them dual-stack."
)
@click.option("--seed", default=1, show_default=True, help="The same seed and options give the same bytes.")
@click.option(
    "--every-rule", is_flag=True, help="Write a small fixed recording instead, in which every kind of rule occurs."
)
@click.pass_context
def synth(
    context: click.Context,
    out: Path,
    services: int,
    endpoints: int | None,
    churn: int,
    nodes: int,
    zones: int,
    dual_stack: bool,
    rich: bool,
    seed: int,
    every_rule: bool,
) -> None:
    """Generate the recording of a synthetic cluster.

    OUT is a .jsonl file, or .jsonl.zst compressed.

    The recording starts with the initial list of Nodes, Services and EndpointSlices, followed by about
    ten minutes of churn: rolling updates, probe flaps, scaling, Services that are created, changed and
    deleted, and a lost node.
    """
    if every_rule:
        given = [p for p in context.params if context.get_parameter_source(p) is ParameterSource.COMMANDLINE]
        if set(given) != {"out", "every_rule"}:
            raise click.UsageError("--every-rule writes a fixed recording and takes no other options")
        count = _write(out, *fixed_recording())
        click.echo(f"{out}: {plural(count, 'event')}, {out.stat().st_size / 1_000_000:.1f} MB")
        return
    try:
        options = SynthOptions(services, endpoints, churn, nodes, zones, dual_stack, seed, rich)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    count = _write(out, *generate(options))
    size = out.stat().st_size / 1_000_000
    click.echo(f"{out}: {plural(count, 'event')}, of which {churn} are churn, {size:.1f} MB, seed {seed}")


def _write(out: Path, head: Header, events: Iterator[Event]) -> int:
    """Write the recording; returns the number of events.

    Raises click.ClickException if the addresses run out; exits with 2 if the file cannot be written.
    """
    # Imported late, so that --help does not load the writer.
    from harness.log import write_recording

    counter = _Counter()
    try:
        with reported(), Progress("writing events") as progress:
            write_recording(out, head, counter.watch(events, progress))
    except ValueError as error:
        raise click.ClickException(f"{out}: {error}") from error
    return counter.count


class _Counter:
    """Counts events as they are written."""

    def __init__(self) -> None:
        """No events yet."""
        self.count = 0

    def watch(self, events: Iterable[Event], progress: Progress) -> Iterator[Event]:
        """`events`, unchanged; no total is shown, as it is not known in advance."""
        for event in events:
            self.count += 1
            progress.done(self.count)
            yield event
