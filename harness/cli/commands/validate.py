"""`harness validate`: reads a whole recording and checks every manifest."""

from __future__ import annotations

import sys

import click

from harness.cli.output import output_format, write_json
from harness.cli.progress import Progress
from harness.cli.value_completion import files
from harness.exit_codes import EXIT_INPUT
from harness.log import Recording, RecordingError, open_source
from harness.log.checks import Checker
from harness.wording import plural

SHOWN = 20
"""Maximum problems printed; with more, the cause is rarely in a single event."""

EXAMPLES = """\b
Examples:
  harness validate recordings/demo.jsonl
  harness validate recordings/demo.jsonl -o json
  zstdcat big.jsonl.zst | harness validate -
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@output_format
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, with all problems.")
def validate(source: str, as_json: bool) -> None:
    """Check a recording or dump for errors.

    SOURCE is a recording, kubectl's JSON output, or - for standard input.

    If anything is invalid, prints up to 20 problems on standard error and exits with 2.
    """
    problems: list[str] = []
    count, digest = 0, ""
    try:
        with open_source(source) as recording, Progress("checking"):
            count = _check(recording, problems)
            digest = recording.sha256 if not problems else ""
    except RecordingError as error:
        problems.append(str(error))
    if as_json:
        write_json(
            {"path": source, "valid": not problems, "events": count, "sha256": digest, "problems": problems}, "-"
        )
    elif not problems:
        click.echo(f"valid: {plural(count, 'event')}, sha256 {digest}")
    if problems:
        _report(problems)


def _check(recording: Recording, problems: list[str]) -> int:
    """Number of events; appends to `problems`, even if reading ends with a RecordingError."""
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
    sys.exit(EXIT_INPUT)
