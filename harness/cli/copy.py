"""`harness copy`: recordings between files and topics."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from harness.cli.following import until_signalled
from harness.recording import RecordingError
from harness.recording.copying import copy as copy_recording

EXIT_BROKER, EXIT_INPUT = 1, 2
EXAMPLES = """\b
Examples:
  harness copy prod.jsonl.zst kafka://kafka-1:9092/prod
  harness copy 'kafka://kafka-1:9092/prod?until=30m' first-half-hour.jsonl
  harness copy kafka://kafka-1:9092/prod mirror.jsonl.zst --follow
  harness copy demo.jsonl demo.jsonl.zst
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.argument("target")
@click.option("--follow", is_flag=True, help="Go on as SOURCE grows, until Ctrl-C or SIGTERM.")
def copy(source: str, target: str, follow: bool) -> None:
    """Copy the recording SOURCE to TARGET; each is a file or kafka://HOST:PORT/TOPIC.

    SOURCE may also be kubectl's JSON output, or - for standard input.  A file is written whole or not
    at all.  A topic is made with the right settings; one that holds a beginning of SOURCE already gets
    the rest, so a copy that was interrupted is just started again.  With --follow a broker that goes
    away is waited for, and gets the rest when it is back.

    TLS and SASL settings come from the properties file that kafka://...?config=FILE or the variable
    HARNESS_KAFKA_CONFIG names.  Exit codes: 1 the broker does not answer, 2 bad input.
    """
    from harness.kafka.errors import BrokerAway

    console = Console(stderr=True)
    try:
        with console.status("copying") as status:
            count = copy_recording(
                source,
                target,
                until_signalled() if follow else None,
                lambda n: status.update(f"copied {n:,} events"),
                _once(console),
            )
    except (RecordingError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_BROKER if isinstance(error, BrokerAway) else EXIT_INPUT)
    click.echo(f"{target}: {count:,} events copied")


def _once(console: Console):
    """Says each reason when it comes up, not at every try."""
    said: list[str] = []

    def trouble(why: str) -> None:
        if said[-1:] != [why]:
            said.append(why)
            console.print(f"waiting: {why}", markup=False, highlight=False, soft_wrap=True)

    return trouble
