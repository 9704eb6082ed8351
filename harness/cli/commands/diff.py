"""`harness diff`: what differs between two recordings, or between two points of one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from harness.cli.endings import Ending
from harness.cli.output import output_format, write_json
from harness.cli.position import position
from harness.cli.progress import Progress
from harness.exit_codes import EXIT_FAILED, EXIT_INPUT
from harness.log.positions import Position, words

if TYPE_CHECKING:
    from harness.log.difference import ObjectDifference
    from harness.log.state import Key

SIGNS = {"added": "+", "removed": "-", "changed": "~"}

EXAMPLES = """\b
Examples:
  harness diff before.jsonl after.jsonl
  harness diff recordings/demo.jsonl                            what the churn changed
  harness diff recordings/demo.jsonl --from 108 --until 112
  harness diff a.jsonl b.jsonl --at-a 500 --at-b 730 --json
  kubectl get services,endpointslices,nodes -A -o json | harness diff recorded.jsonl -
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@click.option(
    "--from", "start", type=position, help="A only: compare the state after this seq or time ...  [initial list]"
)
@click.option("--until", type=position, help="A only: ... with the state after this seq or time (90s).  [end]")
@click.option("--at-a", type=position, help="A and B: use A's state after this seq or time.  [end]")
@click.option("--at-b", type=position, help="A and B: use B's state after this seq or time.  [end]")
@click.option(
    "--all-fields", is_flag=True, help="Also compare bookkeeping fields (resourceVersion, ...) and the order of lists."
)
@output_format
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def diff(
    a: str,
    b: str | None,
    start: Position | None,
    until: Position | None,
    at_a: Position | None,
    at_b: Position | None,
    **shown: Any,
) -> None:
    """Show the objects that differ between two recordings.

    Compares the final states of A and B, or the states at two points of A.

    Each is a recording, kubectl's JSON output, or - for standard input.  Objects are identified by resource,
    namespace and name; + marks added, - removed, and ~ changed objects, with the fields that changed.

    Exit codes, as for diff: 0 no differences; 1 differences; 2 bad input.
    """
    if b is None and (at_a, at_b) != (None, None):
        raise click.UsageError("--at-a and --at-b need both A and B; for one recording use --from and --until")
    if b is not None and (start, until) != (None, None):
        raise click.UsageError("--from and --until apply to A alone; for A and B use --at-a and --at-b")
    if a == b == "-":
        raise click.UsageError("standard input can be only one of A and B")
    if start and until and start[0] == until[0] and start > until:
        raise click.UsageError(f"--from {words(start)} comes after --until {words(until)}")
    before, after = _within(a, start, until) if b is None else (_state(a, at_a), _state(b, at_b))
    sys.exit(_compare(before, after, **shown))


def _state(source: str, at: Position | None) -> Mapping[Key, bytes]:
    return _within(source, None, at)[1]


def _within(
    source: str, start: Position | None, until: Position | None
) -> tuple[Mapping[Key, bytes], Mapping[Key, bytes]]:
    """Objects at two points of a source, read once."""
    from harness.log import RecordingError, open_source
    from harness.log.state import two_states

    try:
        with open_source(source) as recording, Progress("reading"):
            return two_states(recording, start, until)
    except RecordingError as error:
        _fail(str(error))
    except LookupError as error:
        _fail(f"{source}: {error.args[0]}")


def _compare(before: Mapping[Key, bytes], after: Mapping[Key, bytes], all_fields: bool, as_json: bool) -> int:
    import msgspec

    from harness.log.difference import differences, summary

    try:
        changes = list(differences(before, after, all_fields))
    except msgspec.DecodeError as error:
        _fail(f"an object cannot be read: {error}; run harness validate to locate it")
    counts = summary(changes, before)
    if as_json:
        value = {"summary": counts, "objects": changes}
        write_json(msgspec.json.decode(msgspec.json.encode(value)), "-")
    else:
        _print(changes, counts)
    return EXIT_FAILED if changes else 0


def _print(changes: list[ObjectDifference], counts: dict[str, dict[str, int]]) -> None:
    for change in changes:
        click.echo(
            f"{SIGNS[change.change]} {change.resource} {'/'.join(filter(None, (change.namespace, change.name)))}"
        )
        for field in change.fields:
            click.echo(f"    {field.path}  {_text(field.before)} -> {_text(field.after)}")
    for resource, row in counts.items():
        click.echo(f"{resource}: {', '.join(f'{count:,} {what}' for what, count in row.items())}")


def _text(value: object) -> str:
    import msgspec

    return "(none)" if value is msgspec.UNSET else msgspec.json.encode(value).decode()


def _fail(message: str) -> NoReturn:
    raise Ending(message, EXIT_INPUT, prefix="")
