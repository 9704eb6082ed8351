"""`harness kafka`: a real broker on this machine, for tests and experiments."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.output import write_text
from harness.cli.progress import Progress
from harness.cli.verbosity import say
from harness.exit_codes import EXIT_FAILED

if TYPE_CHECKING:
    from harness.log.kafka.broker import Broker

SETTINGS = {"help_option_names": ["-h", "--help"]}
EXAMPLES = """\b
Examples:
  harness kafka up
  harness record --kafka $(harness kafka status --bootstrap) --topic prod
  harness replay kafka://$(harness kafka status --bootstrap)/prod
  harness kafka down
"""

_folder = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="The broker's folder; by default one in the user's state directory.",
)


@click.group(epilog=EXAMPLES, context_settings=SETTINGS)
def kafka() -> None:
    """Run a local Apache Kafka broker for tests.

    A single node in KRaft mode, on loopback, without authentication.

    The first `up` downloads Kafka with Maven into the user's cache; it needs Java 17 or newer.  It is
    meant for tests and experiments; with Docker, deploy/kafka/compose.yaml does the same.  Exits with 1
    if the broker is not available.
    """


@kafka.command(context_settings=SETTINGS)
@_folder
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to listen on; by default the previous one, or a free one."
)
def up(data: Path | None, port: int | None) -> None:
    """Start the broker and print its HOST:PORT.

    Waits until the broker serves; does nothing else if it is already running.

    \b
      harness kafka up --data ./kafka --port 9092
    """

    broker = _broker(data)
    with Progress("starting the broker (the first start downloads it)"):
        broker.up(port or 0)
    write_text(f"{broker.bootstrap}\n", "-")


@kafka.command(context_settings=SETTINGS)
@_folder
@click.option("--purge", is_flag=True, help="Also delete its data, with all topics.")
def down(data: Path | None, purge: bool) -> None:
    """Stop the broker; its data is kept unless --purge is given.

    \b
      harness kafka down --data ./kafka --purge
    """
    broker = _broker(data)
    say("stopped" if broker.down() else "no broker is running there", err=True)
    # Delete only a folder that certainly belongs to a broker.
    if purge and (broker.home / "server.properties").is_file():
        shutil.rmtree(broker.home)


@kafka.command(context_settings=SETTINGS)
@_folder
@click.option("--bootstrap", is_flag=True, help="Print HOST:PORT only.")
def status(data: Path | None, bootstrap: bool) -> None:
    """Report whether the broker is running, and where. Exits with 1 if it is not.

    \b
      harness kafka status
    """
    broker = _broker(data)
    if broker.pid is None:
        click.echo(f"no broker is running in {broker.home}; start one with harness kafka up", err=True)
        sys.exit(EXIT_FAILED)
    if bootstrap:
        write_text(f"{broker.bootstrap}\n", "-")
    else:
        say(f"{broker.bootstrap}  pid {broker.pid}  {broker.home}")


def _broker(data: Path | None) -> Broker:
    from harness.log.kafka.broker import Broker, default_home

    return Broker((data or default_home()).resolve())
