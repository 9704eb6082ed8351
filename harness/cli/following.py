"""`--follow`, shared by all commands that have it: runs until Ctrl-C or SIGTERM, then ends cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from harness import handover
from harness.cli.endings import Ending
from harness.exit_codes import EXIT_INPUT
from harness.log.follow import Follow

if TYPE_CHECKING:
    from harness.replay.rolling import Watchers


def until_signalled() -> Follow:
    """The `Follow` to open a source with; from now on SIGINT and SIGTERM end the source rather than the process."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return Follow(lambda: not stop.wait(0.1), ticks=True)


@contextmanager
def live_figures(
    follow: bool, metrics_port: int | None, mode: str
) -> Iterator[tuple[Watchers | None, Callable[[], str] | None]]:
    """The watchers of a followed replay's figures, and the text for the progress line.

    Exits with 2 if the port cannot be opened.
    """
    from harness.replay.rolling import Exporter, Rolling, Watchers

    if not follow:
        yield None, None
        return
    rolling, exporter = Rolling(), None
    if metrics_port is not None:
        try:
            exporter = handover.take(lambda: Exporter(metrics_port, mode))
        except OSError as error:
            raise Ending(f"--metrics-port {metrics_port}: {error.strerror}", EXIT_INPUT) from None
        click.echo(f"metrics at http://127.0.0.1:{exporter.port}/metrics", err=True)
    try:
        yield Watchers(rolling, exporter), rolling.line
    finally:
        if exporter:
            exporter.close()
