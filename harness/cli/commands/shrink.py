"""`harness shrink`: reduces a recording to the smallest part with which a command still fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.endings import Ending
from harness.cli.progress import Progress
from harness.cli.value_completion import files
from harness.cli.verbosity import say
from harness.exit_codes import EXIT_INPUT
from harness.wording import plural

if TYPE_CHECKING:  # imported late, so that help is quick
    from harness.log.events import Event, Header
    from harness.shrink.trial import Failing

EXAMPLES = """\b
Examples:
  harness shrink prod.jsonl.zst small.jsonl --while 'harness replay {source} --max-p99 1.5'
  harness shrink dump.json small.jsonl --while 'harness replay {source} --mode iptables' --exit-code 5
  harness shrink prod.jsonl small.jsonl --while './reproduce.sh {source}' --match 'connection refused' --redact
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.argument("destination", metavar="DST")
@click.option(
    "--while", "command", required=True, metavar="COMMAND", help="What fails; {source} is replaced by a file."
)
@click.option(
    "--exit-code", type=click.IntRange(0, 255), help="The exit code to keep; by default that with all of SOURCE, not 0."
)
@click.option("--match", "text", default="", metavar="TEXT", help="A text that the command must also print.")
@click.option(
    "--timeout", "seconds", type=click.FloatRange(0.1), default=300.0, show_default=True,
    help="Seconds after which a run of COMMAND is killed; such a run does not count as the same failure.",
)  # fmt: skip
@click.option("--redact", is_flag=True, help="Anonymize the result, if it still fails then; see `harness redact`.")
def shrink(
    source: str, destination: str, command: str, exit_code: int | None, text: str, seconds: float, redact: bool
) -> None:
    """Shrink a recording to a minimal one that still fails.

    COMMAND is run on ever smaller parts of SOURCE: fewer Services, objects and events, and fewer fields in each
    manifest, as long as it ends with the same exit code.  DST then holds a recording from which no single item can
    be removed: use it in a bug report or as a test case.

    Every run is logged in DST.shrink, so after Ctrl-C or a crash the same command line continues.

    Exit codes: 0 DST is written; 1 the command does not fail with all of SOURCE; 2 bad input.
    """
    if os.path.exists(destination) and os.path.exists(source) and os.path.samefile(source, destination):
        raise Ending(f"{destination}: is the source itself; choose another file", EXIT_INPUT)
    from harness.shrink.trial import Failing

    header, events = _read(source)
    _shrink(destination, header, events, Failing(command, exit_code, text, seconds), redact)


def _read(source: str) -> tuple[Header, list[Event]]:
    from harness.log import open_source

    with Progress("reading"), open_source(source) as recording:
        return recording.header, list(recording)


def _shrink(destination: str, header: Header, events: list[Event], failing: Failing, redact: bool) -> None:
    from harness.log import write_recording
    from harness.shrink.reduction import reduced
    from harness.shrink.trial import Trial

    journal = Path(f"{destination}.shrink")
    progress = Progress("running the command on all of it")
    trial = Trial(failing, header, journal, progress.done)
    with progress, trial:
        code = trial.begin(events)
        found = reduced(events, trial.holds, lambda what, count: progress.step(f"trying without {what}, of {count:,}"))
        if redact:
            header, found = trial.redacted(found)
    write_recording(destination, header, found)
    journal.unlink()
    say(
        f"{destination}: {plural(len(found), 'event')} of {len(events):,} still end with {code}"
        f" ({plural(trial.runs, 'run')} of the command)"
    )
