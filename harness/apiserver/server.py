"""The server around an Api: address, TLS, token; in the caller's loop, or in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from aiohttp import web

from harness.serve.app import Api
from harness.serve.control import Control
from harness.serve.kubeconfig import kubeconfig
from harness.serve.live import LiveStore
from harness.serve.pace import Player
from harness.serve.store import Store
from harness.serve.tls import Tls, self_signed
from harness.serve.watching import BOOKMARK_SECONDS
from harness.serve.writes import Writes

SHUTDOWN_SECONDS = 2.0
"""How long open requests may take to end once the server stops."""


class Settings(NamedTuple):
    """Where and how to listen. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    tls: Tls | None = None
    writable: bool = False
    bookmark_seconds: float = BOOKMARK_SECONDS


class Address(NamedTuple):
    """Where a server can be reached, and the Api behind it."""

    url: str
    settings: Settings
    api: Api

    @property
    def port(self) -> int:
        """The port it has."""
        return int(self.url.rpartition(":")[2])

    def kubeconfig(self) -> dict[str, Any]:
        """A kubeconfig for it."""
        return kubeconfig(self.url, self.settings.tls and self.settings.tls.authority, self.settings.token)


@contextlib.asynccontextmanager
async def listening(store: Store, settings: Settings, player: Player | None = None) -> AsyncIterator[Address]:
    """Serve `store` while the context lasts; OSError when the address cannot be had."""
    writes = Writes(store, settings.writable)
    api = Api(store, writes.handle, settings.token, settings.writable, settings.bookmark_seconds)
    app = api.application()
    if player is not None:
        Control(api, player).add_routes(app)
    api.add_routes(app)
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS, keepalive_timeout=75
    )
    await runner.setup()
    try:
        context = settings.tls and settings.tls.context
        await web.TCPSite(runner, settings.host, settings.port, ssl_context=context, backlog=4096).start()
        host, port, *_ = runner.addresses[0]
        shown = f"[{host}]" if ":" in host else host
        yield Address(f"{'https' if context else 'http'}://{shown}:{port}", settings, api)
    finally:
        await runner.cleanup()


class LiveApi:
    """A context manager: live state served from a thread of its own, for a control plane in this process.

    `store` takes its writes directly, from any thread, and clients' over HTTP; both see the other's at once.

        with LiveApi(tls=True, token="s3cret") as api:
            api.store.apply("nodes", {"metadata": {"name": "node-1"}})
            write_kubeconfig("kubeconfig", api.kubeconfig())
            api.disconnect(); api.expire(); api.delay(2.0); api.stop(); api.start()     # as chaos does
    """

    def __init__(
        self,
        store: LiveStore | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        tls: bool = False,
        bookmark_seconds: float = BOOKMARK_SECONDS,
    ) -> None:
        self.store = store or LiveStore()
        self._settings = Settings(host, port, token, self_signed(host) if tls else None, True, bookmark_seconds)
        self._address: Address | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread()

    @property
    def url(self) -> str:
        """Where it is served."""
        return self._address.url

    @property
    def watchers(self) -> int:
        """How many watches are open; 0 while it is stopped."""
        return self._address.api.watchers if self._thread.is_alive() else 0

    def kubeconfig(self) -> dict[str, Any]:
        """A kubeconfig for it."""
        return self._address.kubeconfig()

    def __enter__(self) -> LiveApi:
        self.start()
        return self

    def __exit__(self, *_exception) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; OSError when the address cannot be had. After a `stop` the port is the one it was."""
        self._ready.clear()
        self._failure = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="live-api", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        self._settings = self._settings._replace(port=self._address.port)

    def stop(self) -> None:
        """End every watch and stop listening; the store goes on. Does nothing when it is stopped."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(SHUTDOWN_SECONDS + 5)

    def disconnect(self) -> None:
        """Break every watch off in the middle."""
        self._loop.call_soon_threadsafe(self._address.api.disconnect)

    def expire(self) -> None:
        """End every watch with 410 Gone; clients have to list anew."""
        self.store.expire()
        self._loop.call_soon_threadsafe(self._address.api.ring_all)

    def delay(self, seconds: float) -> None:
        """Let every request wait so long for its answer."""
        self._address.api.delay_seconds = seconds

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with listening(self.store, self._settings) as self._address:
                self._ready.set()
                await self._stop.wait()
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()
