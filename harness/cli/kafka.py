"""`harness kafka`: a real broker on this machine, for tests and trying out."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

SETTINGS = {"help_option_names": ["-h", "--help"]}
EXAMPLES = """\b
Examples:
  harness kafka up
  harness record --kafka $(harness kafka status --bootstrap) --topic prod
  harness replay kafka://$(harness kafka status --bootstrap)/prod
  harness kafka down
"""

_folder = click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Its folder; by default one of the user's own."
)


@click.group(epilog=EXAMPLES, context_settings=SETTINGS)
def kafka() -> None:
    """Run an Apache Kafka broker of your own: one node, KRaft mode, on loopback, no authentication.

    The first `up` downloads it with Maven into the user's cache (Java 17 or newer runs it). It is for
    tests and trying out; with Docker, deploy/kafka/compose.yaml does the same. Exits with 1 when the
    broker cannot be had.
    """


@kafka.command(context_settings=SETTINGS)
@_folder
@click.option("--port", type=click.IntRange(1, 65535), help="Where to listen; by default the last one, or a free one.")
def up(data: Path | None, port: int | None) -> None:
    """Start the broker and wait until it serves; prints HOST:PORT. Nothing to do when it runs.

    \b
      harness kafka up --data ./kafka --port 9092
    """
    from harness.kafka.broker import BrokerError

    broker = _broker(data)
    try:
        broker.up(port or 0)
    except BrokerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo(broker.bootstrap)


@kafka.command(context_settings=SETTINGS)
@_folder
@click.option("--purge", is_flag=True, help="Delete its data too: every topic is gone.")
def down(data: Path | None, purge: bool) -> None:
    """Stop the broker; its data stays unless --purge is given.

    \b
      harness kafka down --data ./kafka --purge
    """
    broker = _broker(data)
    click.echo("stopped" if broker.down() else "no broker runs there", err=True)
    # Only what is a broker's folder for certain is deleted.
    if purge and (broker.home / "server.properties").is_file():
        shutil.rmtree(broker.home)


@kafka.command(context_settings=SETTINGS)
@_folder
@click.option("--bootstrap", is_flag=True, help="Print HOST:PORT only.")
def status(data: Path | None, bootstrap: bool) -> None:
    """Say whether the broker runs, and where. Exits with 1 when it does not.

    \b
      harness kafka status
    """
    broker = _broker(data)
    if broker.pid is None:
        click.echo(f"no broker runs in {broker.home}; harness kafka up starts one", err=True)
        sys.exit(1)
    click.echo(broker.bootstrap if bootstrap else f"{broker.bootstrap}  pid {broker.pid}  {broker.home}")


def _broker(data: Path | None):
    from harness.kafka.broker import Broker, default_home

    return Broker((data or default_home()).resolve())
