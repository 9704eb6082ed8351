"""`harness validate`: read a recording to its end and check every manifest."""

from __future__ import annotations

import sys

import click

from harness.recording import Recording, RecordingError, open_source
from harness.recording.checks import Checker

SHOWN = 20
"""Problems printed at most; past that the cause is seldom in the single event."""

EXAMPLES = """\b
Examples:
  harness validate recordings/demo.jsonl
  zstdcat big.jsonl.zst | harness validate -
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
def validate(source: str) -> None:
    """Check all of SOURCE: a recording, kubectl's JSON output, or - for standard input.

    Exits with 2 and up to 20 problems on standard error unless all is well.
    """
    problems: list[str] = []
    count = 0
    try:
        with open_source(source) as recording:
            count = _check(recording, problems)
            digest = recording.sha256 if not problems else ""
    except RecordingError as error:
        problems.append(str(error))
    if problems:
        _report(problems)
    click.echo(f"valid: {count} events, sha256 {digest}")


def _check(recording: Recording, problems: list[str]) -> int:
    """Number of events; appends to `problems`, also when reading ends in RecordingError."""
    checker = Checker()
    count = 0
    for event in recording:
        count += 1
        found = checker.problems(event)
        if found:
            problems += [str(recording.error(event, text)) for text in found]
    return count


def _report(problems: list[str]) -> None:
    for problem in problems[:SHOWN]:
        click.echo(problem, err=True)
    if len(problems) > SHOWN:
        click.echo(f"and {len(problems) - SHOWN} more problems", err=True)
    sys.exit(2)
