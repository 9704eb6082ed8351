"""`harness serve`: serves a recording as a Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from typing import TYPE_CHECKING, Any

import click

from harness.cli.endings import Ending
from harness.cli.value_completion import files
from harness.exit_codes import EXIT_FAILED

if TYPE_CHECKING:
    from harness.apiserver.live import LiveStore
    from harness.apiserver.pace import Player
    from harness.apiserver.settings import ServerSettings


EXAMPLES = """\b
Examples:
  harness serve recordings/demo.jsonl --write-kubeconfig kubeconfig
  kubectl --kubeconfig kubeconfig get services -A
  harness serve recordings/10k-svc.jsonl --start-paused --speed max --port 8001
  curl -X POST http://127.0.0.1:8001/control/resume
  harness serve dump.json --tls --token s3cret --write-kubeconfig kubeconfig
  harness serve recordings/demo.jsonl --writable --until 0s --journal what-happened.jsonl
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 picks a free one.")
@click.option("--speed", default="1", show_default=True, help="max, or a factor: 1 is the recorded speed.")
@click.option("--from", "start", help="Begin with the state before this seq or time (90s).")
@click.option("--until", help="Stop playing after this seq or time (5m).")
@click.option("--start-paused", is_flag=True, help="Wait for POST /control/resume or step.")
@click.option(
    "--history",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Changes kept per resource; watches from an older resourceVersion get 410 Gone.",
)
@click.option(
    "--bookmark-seconds",
    type=click.FloatRange(0.01),
    default=60.0,
    show_default=True,
    help="Time between two bookmarks of a watch that allows them.",
)
@click.option("--token", help="Bearer token that clients must present.")
@click.option("--tls", is_flag=True, help="HTTPS with a new self-signed certificate, which the kubeconfig contains.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="HTTPS with this certificate.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Private key of --tls-cert.")
@click.option("--writable", is_flag=True, help="Also accept creates, updates, patches and deletes.")
@click.option("--journal", type=click.Path(dir_okay=False), help="Record all events to this file (.jsonl).")
@click.option("--write-kubeconfig", type=click.Path(dir_okay=False), help="Write a kubeconfig to this file once ready.")
def serve(source: str, **choices: Any) -> None:
    """Serve a recording as a Kubernetes API.

    kubectl, client libraries and service proxies can list and watch it.

    SOURCE is a recording, or kubectl's output.  Its initial list is loaded before the server reports that
    it is ready; then its events are played at the recorded pace.  Unless --writable is given, the API is
    read-only, except for Events, which are accepted and listed.  The server stays up after the last
    event, until SIGINT or SIGTERM.

    /control/status reports the current position; POST /control/pause, resume, step?count=N,
    seek?to=SEQ-or-TIME and speed?factor=N control playback; disconnect, expire and delay?seconds=N
    disturb the clients.

    Exit codes: 0 stopped by a signal; 1 the address or certificate is not available; 2 bad input.
    """

    try:
        asyncio.run(_serve(source, choices))
    except OSError as error:
        raise Ending(str(error), EXIT_FAILED) from None


async def _serve(source: str, choices: dict[str, Any]) -> None:
    from harness.apiserver.journal import Journal
    from harness.apiserver.kubeconfig import write_kubeconfig
    from harness.apiserver.live import LiveStore
    from harness.apiserver.server import listening

    # Each watch is a connection: a thousand watches need more than the usual soft limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    store = LiveStore(choices["history"])
    player, stop = _player(source, store, choices), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with contextlib.closing(player), contextlib.ExitStack() as stack:
        player.load()
        if choices["journal"]:
            stack.enter_context(Journal(choices["journal"], store, player.cluster))
        async with listening(store, _settings(choices), player) as address:
            if choices["write_kubeconfig"]:
                write_kubeconfig(choices["write_kubeconfig"], address.kubeconfig())
            counts = ", ".join(f"{len(c)} {c.kind.resource}" for c in store.collections.values() if c.kind.recorded)
            click.echo(f"serving {source} at {address.url} ({counts}; {player.state})")
            await _until(stop, player)


async def _until(stop: asyncio.Event, player: Player) -> None:
    """Play until `stop` is set; exceptions of the player are raised."""
    waiting = asyncio.ensure_future(stop.wait())
    playing = asyncio.ensure_future(player.run())
    done, _ = await asyncio.wait({waiting, playing}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    playing.cancel()
    if playing in done:
        playing.result()


def _player(source: str, store: LiveStore, choices: dict[str, Any]) -> Player:
    from harness.apiserver.pace import Player
    from harness.log.positions import position, speed
    from harness.log.window import Window

    try:
        window = Window(*(choices[name] and position(choices[name]) for name in ("start", "until")))
        return Player(source, store, window, speed(choices["speed"]), choices["start_paused"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _settings(choices: dict[str, Any]) -> ServerSettings:
    from harness.apiserver.settings import ServerSettings
    from harness.apiserver.tls import from_files, self_signed

    certificate, key = choices["tls_cert"], choices["tls_key"]
    if bool(certificate) != bool(key):
        raise click.UsageError("--tls-cert and --tls-key must be given together")
    tls = from_files(certificate, key) if certificate else self_signed(choices["host"]) if choices["tls"] else None
    return ServerSettings(
        choices["host"], choices["port"], choices["token"], tls, choices["writable"], choices["bookmark_seconds"]
    )
