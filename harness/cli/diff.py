"""`harness diff`: what differs between two recordings, or between two points of one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.recording.difference import ObjectChange
    from harness.recording.state import Key

EXIT_DIFFERENT, EXIT_INPUT = 1, 2
SIGNS = {"added": "+", "removed": "-", "changed": "~"}

EXAMPLES = """\b
Examples:
  harness diff before.jsonl after.jsonl
  harness diff recordings/demo.jsonl                            what the churn changed
  harness diff recordings/demo.jsonl --from 120 --until 180
  harness diff a.jsonl b.jsonl --at-a 500 --at-b 730 --json
  kubectl get services,endpointslices,nodes -A -o json | harness diff recorded.jsonl -
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@click.option(
    "--from", "start", type=int, metavar="SEQ", help="A alone: compare from after this event.  [initial list]"
)
@click.option("--until", type=int, metavar="SEQ", help="A alone: compare up to after this event.  [end]")
@click.option("--at-a", type=int, metavar="SEQ", help="A and B: A's state after this event.  [end]")
@click.option("--at-b", type=int, metavar="SEQ", help="A and B: B's state after this event.  [end]")
@click.option("--all-fields", is_flag=True, help="Compare bookkeeping too (resourceVersion, ...), and lists' order.")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing, only exit.")
def diff(
    a: str, b: str | None, start: int | None, until: int | None, at_a: int | None, at_b: int | None, **shown
) -> None:
    """Show the objects that differ between the ends of A and B, or between two points of A alone.

    Each is a recording, kubectl's JSON output, or - for standard input.  Objects are told apart by resource,
    namespace and name; + is added, - removed, ~ changed, with its fields.

    Exits like diff: 0 the same, 1 different, 2 trouble.
    """
    if b is None and (at_a, at_b) != (None, None):
        raise click.UsageError("--at-a and --at-b need A and B; for one recording there are --from and --until")
    if b is not None and (start, until) != (None, None):
        raise click.UsageError("--from and --until are for A alone; for A and B there are --at-a and --at-b")
    if a == b == "-":
        raise click.UsageError("standard input can be only one of A and B")
    if start is not None and until is not None and start > until:
        raise click.UsageError(f"--from {start} comes after --until {until}")
    before, after = _within(a, start, until) if b is None else (_state(a, at_a), _state(b, at_b))
    sys.exit(_compare(before, after, **shown))


def _state(source: str, seq: int | None) -> dict[Key, bytes]:
    return _within(source, None, seq)[1]


def _within(source: str, start: int | None, until: int | None) -> tuple[dict[Key, bytes], dict[Key, bytes]]:
    """Objects at two points of a source, read once."""
    from harness.recording import RecordingError, open_source
    from harness.recording.state import two_states

    try:
        with open_source(source) as recording:
            return two_states(recording, start, until)
    except RecordingError as error:
        _fail(str(error))
    except LookupError as error:
        _fail(f"{source}: {error.args[0]}")


def _compare(before: dict, after: dict, all_fields: bool, as_json: bool, quiet: bool) -> int:
    import msgspec

    from harness.recording.difference import differences, summary

    try:
        changes = list(differences(before, after, all_fields))
    except msgspec.DecodeError as error:
        _fail(f"an object cannot be read: {error}; harness validate says where")
    counts = summary(changes, before)
    if as_json and not quiet:
        value = {"summary": counts, "objects": changes}
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
    elif not quiet:
        _print(changes, counts)
    return EXIT_DIFFERENT if changes else 0


def _print(changes: list[ObjectChange], counts: dict[str, dict[str, int]]) -> None:
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


def _fail(message: str) -> None:
    click.echo(message, err=True)
    sys.exit(EXIT_INPUT)
