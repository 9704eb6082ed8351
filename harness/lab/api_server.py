"""Serves the lab's store as the cluster's API, and can be made to fail as API servers do.

Faults: `down` (nothing listens, connections are cut), `slow` (each request waits), `drop` (watches are cut, every
`every_seconds`), `gone` (the same after history was compacted, so that every client has to list anew).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from harness.lab.api import Api
from harness.lab.topology import API_ADDRESS, API_PORT
from harness.serve.app import Api as ServedApi
from harness.serve.writes import Writes

FAULTS = ("down", "slow", "drop", "gone")


class ApiServer:
    """Started once; `active` is the set of faults in force."""

    def __init__(self, api: Api) -> None:
        self.url = f"http://{API_ADDRESS}:{API_PORT}"
        self.active: set[str] = set()
        self._api = api
        self._delay = 0.0
        self._transports: set[asyncio.Transport] = set()
        self._storm: asyncio.Task | None = None
        self._site: web.TCPSite | None = None

    async def start(self) -> None:
        """Listen on the router."""
        served = ServedApi(self._api.store, Writes(self._api.store, True).handle, None, True)
        app = served.application()
        app.middlewares.insert(0, self._middleware)
        served.add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await self._listen()

    async def stop(self) -> None:
        """End all connections."""
        await self.clear()
        await self._runner.cleanup()

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, API_ADDRESS, API_PORT, reuse_address=True)
        await self._site.start()

    @web.middleware
    async def _middleware(self, request: web.Request, handler) -> web.StreamResponse:
        transport = request.transport
        self._transports.add(transport)
        try:
            if self._delay:
                await asyncio.sleep(self._delay)
            return await handler(request)
        finally:
            self._transports.discard(transport)

    async def set(self, kind: str, seconds: float = 1.0, every_seconds: float = 1.0) -> None:
        """Inject a fault: `seconds` is the delay of `slow`, `every_seconds` the pause of `drop` and `gone`."""
        if kind not in FAULTS:
            raise ValueError(f"{kind!r} is no fault of an API; one of {', '.join(FAULTS)} is needed")
        if kind == "down" and "down" not in self.active:
            self._api.set_up(False)
            await self._site.stop()
            self._cut()
        elif kind == "slow":
            self._delay = seconds
        elif kind in ("gone", "drop") and self._storm is None:
            self._storm = asyncio.create_task(self._storms(kind == "gone", every_seconds))
        self.active.add(kind)

    async def clear(self) -> None:
        """Heal everything."""
        self._delay = 0.0
        if self._storm:
            self._storm.cancel()
            self._storm = None
        if "down" in self.active:
            await self._listen()
            self._api.set_up(True)
        self.active.clear()

    def _cut(self) -> None:
        for transport in tuple(self._transports):
            if transport is not None:
                transport.abort()

    async def _storms(self, compact: bool, every_seconds: float) -> None:
        while True:
            if compact:
                self._api.store.forget()
            self._cut()
            await asyncio.sleep(every_seconds)


def write_kubeconfig(path: Path, url: str) -> None:
    """A kubeconfig for clients inside the lab."""
    path.write_text(
        yaml.safe_dump(_kubeconfig(url), sort_keys=False),
    )


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "lab", "user": {}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
