"""`harness explore`: a recording or a chaos run as a page for a browser on this machine."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import handover
from harness.cli.endings import Ending
from harness.cli.output import this_command
from harness.cli.progress import Progress
from harness.cli.result_pages import page_of
from harness.cli.value_completion import files
from harness.exit_codes import EXIT_FAILED, EXIT_INPUT

if TYPE_CHECKING:  # imported late, so that help is quick
    from aiohttp import web

    from harness.explore.growth import Growth

EXAMPLES = """\b
Examples:
  harness explore recordings/demo.jsonl
  harness explore recordings/10k-svc.jsonl --port 8080
  harness explore recordings/demo.jsonl --result demo.json  # with the convergence of that replay
  harness explore prod.jsonl --follow                   # while `harness record` writes it
  harness explore kafka://kafka-1:9092/prod --follow
  harness explore chaos-pod-kill-nftables/              # a chaos run: faults and lost requests on the same clock
  harness explore fleet.json                            # what `harness fleet --json fleet.json` found
  kubectl get services,endpointslices,nodes -A -o json | harness explore -
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; a free one by default.", metavar="PORT"
)
@click.option(
    "--result",
    type=click.Path(),
    help="A result of `harness replay SOURCE --json`: its convergence is shown on the timeline.",
    shell_complete=files,
)
@click.option("--follow", is_flag=True, help="Keep reading as SOURCE grows; the page follows.")
def explore(source: str, port: int, result: str | None, follow: bool) -> None:
    """Explore a recording in a browser, moment by moment.

    SOURCE is a recording, kubectl's JSON output, kafka://HOST:PORT/TOPIC, or the folder of a chaos run.
    The page shows the state at every event, what changed, the rules before and after, and a packet's
    way through them.  A result of another command, written with --json, is shown as that command's
    own page.  The page is served on 127.0.0.1 until Ctrl-C or SIGTERM, and needs nothing from the
    network.

    Exit codes: 0 stopped by a signal; 1 the address is not available; 2 SOURCE cannot be read.
    """
    from harness.explore.growth import Growth

    if follow and (result or Path(source).is_dir()):
        raise click.UsageError("--follow reads a recording that grows, which no --result and no chaos run is of")
    growth = Growth(source) if follow else None
    try:
        with Progress("reading"):
            application = _followed(growth) if growth else _application(source, result)
        asyncio.run(_serve(application, port))
    except _Unavailable as error:
        raise Ending(f"127.0.0.1:{port}: {error}", EXIT_FAILED) from None
    except (ValueError, OSError) as error:
        raise Ending(str(error), EXIT_INPUT) from None
    finally:
        if growth:
            growth.close()


class _Unavailable(Exception):
    """The address cannot be listened on."""


def _followed(growth: Growth) -> web.Application:
    from harness.explore.server import Explorer

    return Explorer(growth.opened(), growth=growth).application()


def _application(source: str, result: str | None) -> web.Application:
    from harness.explore.convergence import of_result
    from harness.explore.history import read_history
    from harness.explore.run import RECORDING, read_run
    from harness.explore.server import Explorer, showing
    from harness.log import open_source

    if not result and (document := page_of(source, this_command())):
        return showing(document)
    folder = Path(source)
    run = read_run(folder) if folder.is_dir() else None
    with open_source(str(folder / RECORDING) if run else source) as recording:
        history = read_history(recording)
    known = of_result(result, history.sha256) if result else None
    return Explorer(history, run, known).application()


async def _serve(application: web.Application, port: int) -> None:
    """Serve until a signal arrives."""
    from aiohttp import web

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await _listen(runner, port)
        click.echo(f"open http://127.0.0.1:{runner.addresses[0][1]}/  (Ctrl-C ends it)")
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> None:
    from aiohttp import web

    try:
        await handover.listen(lambda: web.TCPSite(runner, "127.0.0.1", port).start())
    except OSError as error:
        raise _Unavailable(error.strerror or str(error)) from None
