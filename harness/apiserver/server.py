"""The server for one store's API: address, TLS, token; in the caller's event loop, or in its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from aiohttp import web

from harness import handover
from harness.apiserver import discovery
from harness.apiserver.app import ApiHandlers
from harness.apiserver.control import Control
from harness.apiserver.kubeconfig import kubeconfig
from harness.apiserver.live import LiveStore
from harness.apiserver.pace import Player
from harness.apiserver.settings import BOOKMARK_SECONDS, ServerSettings
from harness.apiserver.tls import self_signed
from harness.apiserver.writes import Writes

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Local address of a server that listens on all addresses."""

SHUTDOWN_SECONDS = 2.0
"""Time for open requests to finish when the server stops."""


class Address(NamedTuple):
    """The address of a server, and its handlers."""

    url: str
    settings: ServerSettings
    api: ApiHandlers

    @property
    def port(self) -> int:
        """The port."""
        return int(self.url.rpartition(":")[2])

    def kubeconfig(self) -> dict[str, Any]:
        """A kubeconfig for the server."""
        return kubeconfig(self.url, self.settings.tls and self.settings.tls.authority, self.settings.token)


@contextlib.asynccontextmanager
async def listening(store: LiveStore, settings: ServerSettings, player: Player | None = None) -> AsyncIterator[Address]:
    """Serve `store` within the context; OSError if the address is not available."""
    writes = Writes(store, settings.writable)
    version = settings.version or (player and player.cluster.get("version")) or discovery.VERSION
    api = ApiHandlers(store, writes.handle, settings._replace(version=version))
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
        if settings.bound:
            await web.SockSite(runner, settings.bound, ssl_context=context, backlog=4096).start()
        else:
            await handover.listen(
                lambda: web.TCPSite(runner, settings.host, settings.port, ssl_context=context, backlog=4096).start()
            )
        host, port, *_ = runner.addresses[0]
        host = LOOPBACK.get(host, host)
        shown = f"[{host}]" if ":" in host else host
        yield Address(f"{'https' if context else 'http'}://{shown}:{port}", settings, api)
    finally:
        await runner.cleanup()


class LiveApi:
    """A context manager that serves live state from its own thread, for a control plane in this process.

    `store` accepts writes directly, from any thread, and from clients over HTTP; both are visible immediately.

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
        bound: socket.socket | None = None,
        version: str = "",
        most_per_page: int = 0,
    ) -> None:
        self.store = store or LiveStore()
        certificate = self_signed(host) if tls else None
        self._settings = ServerSettings(
            host,
            port,
            token,
            certificate,
            writable=True,
            bookmark_seconds=bookmark_seconds,
            bound=bound,
            version=version,
            most_per_page=most_per_page,
        )
        self._listening: Address | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread = threading.Thread()

    @property
    def _address(self) -> Address:
        assert self._listening, "`start` comes first"
        return self._listening

    def _soon(self, call: Callable[[], object]) -> None:
        """Call it in the server's own thread."""
        assert self._running, "`start` comes first"
        self._running[0].call_soon_threadsafe(call)

    @property
    def url(self) -> str:
        """The URL."""
        return self._address.url

    @property
    def watchers(self) -> int:
        """The number of open watches; 0 while stopped."""
        return self._address.api.watchers if self._thread.is_alive() else 0

    def kubeconfig(self) -> dict[str, Any]:
        """A kubeconfig for the server."""
        return self._address.kubeconfig()

    def __enter__(self) -> LiveApi:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; OSError if the address is not available. After a `stop` the port is the same."""
        self._ready.clear()
        self._failure = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="live-api", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        self._settings = self._settings._replace(port=self._address.port)

    def stop(self) -> None:
        """End every watch and stop listening; the store stays usable. No-op if stopped."""
        if self._thread.is_alive():
            assert self._running, "its thread runs"
            self._soon(self._running[1].set)
            self._thread.join(SHUTDOWN_SECONDS + 5)

    def disconnect(self) -> None:
        """Abort every watch mid-stream."""
        self._soon(self._address.api.disconnect)

    def expire(self) -> None:
        """End every watch with 410 Gone; clients have to list again."""
        self.store.expire()
        self._soon(self._address.api.ring_all)

    def delay(self, seconds: float) -> None:
        """Delay every response by this time."""
        self._address.api.delay_seconds = seconds

    async def _run(self) -> None:
        stop = asyncio.Event()
        self._running = asyncio.get_running_loop(), stop
        try:
            async with listening(self.store, self._settings) as self._listening:
                self._ready.set()
                await stop.wait()
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()
