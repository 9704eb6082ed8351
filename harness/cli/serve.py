"""`harness serve`: a recording as a Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sys

import click

EXIT_ADDRESS, EXIT_INPUT = 1, 2

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
@click.argument("source")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one.")
@click.option("--speed", default="1", show_default=True, help="max, or a factor: 1 is as recorded.")
@click.option("--from", "start", help="Begin with the state before this seq, or time (90s).")
@click.option("--until", help="Stand still after this seq, or time (5m).")
@click.option("--start-paused", is_flag=True, help="Wait for POST /control/resume or step.")
@click.option(
    "--history",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Changes a resource that can be watched again; older ones answer 410 Gone.",
)
@click.option(
    "--bookmark-seconds",
    type=click.FloatRange(0.01),
    default=60.0,
    show_default=True,
    help="Time between two bookmarks of a watch that takes them.",
)
@click.option("--token", help="Bearer token that clients must show.")
@click.option("--tls", is_flag=True, help="HTTPS with a certificate made now, which the kubeconfig holds.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="HTTPS with this certificate.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Its key.")
@click.option("--writable", is_flag=True, help="Take creates, updates, patches and deletes too.")
@click.option("--journal", type=click.Path(dir_okay=False), help="Write all that happens to this recording (.jsonl).")
@click.option("--write-kubeconfig", type=click.Path(dir_okay=False), help="Write a kubeconfig here once ready.")
def serve(source: str, **choices) -> None:
    """Serve SOURCE as a Kubernetes API: kubectl, client libraries and service proxies can list and watch it.

    SOURCE is a recording, or what kubectl prints. What it holds at its start is there when the server
    says that it is ready; then its events happen at their own pace. It is read-only, but for Events,
    which are accepted and listed, unless --writable. The server stays up after the last event, until SIGINT or SIGTERM.

    /control/status tells where it is; POST /control/pause, resume, step?count=N, seek?to=SEQ-or-TIME
    and speed?factor=N steer it; disconnect, expire and delay?seconds=N disturb its clients.

    Exit codes: 0 stopped by a signal; 1 the address or certificate is not to be had; 2 bad input.
    """
    from harness.recording import RecordingError
    from harness.serve.tls import TlsError

    try:
        asyncio.run(_serve(source, choices))
    except RecordingError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_INPUT)
    except (OSError, TlsError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_ADDRESS)


async def _serve(source: str, choices: dict) -> None:
    from harness.serve.journal import Journal
    from harness.serve.kubeconfig import write_kubeconfig
    from harness.serve.live import LiveStore
    from harness.serve.server import listening

    # A watch is a connection: a thousand of them need more than the usual soft limit.
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


async def _until(stop: asyncio.Event, player) -> None:
    """Play until told to stop; raises what the player raises."""
    waiting = asyncio.ensure_future(stop.wait())
    playing = asyncio.ensure_future(player.run())
    done, _ = await asyncio.wait({waiting, playing}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    playing.cancel()
    if playing in done:
        playing.result()


def _player(source: str, store, choices: dict):
    from harness.recording.places import place, speed
    from harness.replay.schedule import Window
    from harness.serve.pace import Player

    try:
        window = Window(*(choices[name] and place(choices[name]) for name in ("start", "until")))
        return Player(source, store, window, speed(choices["speed"]), choices["start_paused"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _settings(choices: dict):
    from harness.serve.server import Settings
    from harness.serve.tls import from_files, self_signed

    certificate, key = choices["tls_cert"], choices["tls_key"]
    if bool(certificate) != bool(key):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    tls = from_files(certificate, key) if certificate else self_signed(choices["host"]) if choices["tls"] else None
    return Settings(
        choices["host"], choices["port"], choices["token"], tls, choices["writable"], choices["bookmark_seconds"]
    )
