"""`harness copy`: copies recordings between files and topics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from harness.cli.endings import Ending
from harness.cli.following import until_signalled
from harness.cli.progress import Progress
from harness.cli.value_completion import files
from harness.exit_codes import EXIT_FAILED, EXIT_INPUT
from harness.log.copying import copy as copy_recording
from harness.wording import plural

EXAMPLES = """\b
Examples:
  harness copy prod.jsonl.zst kafka://kafka-1:9092/prod
  harness copy 'kafka://kafka-1:9092/prod?until=30m' first-half-hour.jsonl
  harness copy kafka://kafka-1:9092/prod mirror.jsonl.zst --follow
  harness copy demo.jsonl demo.jsonl.zst
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.argument("target")
@click.option("--follow", is_flag=True, help="Keep copying as SOURCE grows, until Ctrl-C or SIGTERM.")
def copy(source: str, target: str, follow: bool) -> None:
    """Copy a recording between files and Kafka topics.

    SOURCE and TARGET are files or kafka://HOST:PORT/TOPIC.

    SOURCE may also be kubectl's JSON output, or - for standard input.  A file is written completely or
    not at all.  A topic is created with the required settings; if it already holds the first part of
    SOURCE, only the rest is copied, so an interrupted copy can simply be started again.  With --follow,
    an outage of the broker is waited out.

    TLS and SASL settings are read from the properties file named by kafka://...?config=FILE or by the
    environment variable HARNESS_KAFKA_CONFIG.  Exit codes: 1 the broker does not answer; 2 bad input.
    """
    from harness.log.kafka.trouble import BrokerAway

    try:
        with Progress("copying") as progress:
            report = partial(progress.count, "copying")
            count = copy_recording(source, target, until_signalled() if follow else None, report, _once(progress))
    except BrokerAway as error:
        raise Ending(str(error), EXIT_FAILED) from None
    except OSError as error:
        raise Ending(str(error), EXIT_INPUT) from None
    click.echo(f"{target}: {plural(count, 'event')} copied")


def _once(progress: Progress) -> Callable[[str], None]:
    """Prints each reason for waiting once, not on every attempt."""
    printed: list[str] = []

    def trouble(why: str) -> None:
        if printed[-1:] != [why]:
            printed.append(why)
            progress.clear()
            click.echo(f"waiting: {why}", err=True)

    return trouble
