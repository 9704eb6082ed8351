"""TCP node ports on loopback in mode nftables, served by this process itself (NP-11).

No rules are involved: a listener on 127.0.0.1 or ::1 per node port connects each client to one of the port's endpoints
and copies data in both directions.  Listeners run on the event loop of one thread, which is started for the first one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.addresses import LOOPBACK, format_address, split_target
from engine.dataplane import PortPlan
from engine.model import TCP, Target
from engine.server.runtime.logs import get_log

DIAL_SECONDS = 5.0
SYNC_SECONDS = 30.0
"""Limit for opening and closing listeners."""
_CHUNK_BYTES = 1 << 16

_log = get_log(__name__)


class Served(NamedTuple):
    """Endpoints of one node port; with affinity all clients use one endpoint until the port was idle for so long."""

    endpoints: frozenset[Target]
    affinity_seconds: int


def wanted(plans: Iterable[tuple[PortPlan, ...]]) -> dict[int, Served]:
    """The node ports to serve for all Services of a family; those without an endpoint get no listener."""
    found: dict[int, Served] = {}
    for plan in (plan for ports in plans for plan in ports):
        endpoints = plan.local if plan.external_local else plan.cluster
        if plan.protocol == TCP and plan.node_port and endpoints:
            found.setdefault(plan.node_port, Served(frozenset(endpoints), plan.affinity_seconds))
    return found


class LocalhostPorts:
    """The listeners of one family, as of the last sync.  `clock` returns seconds, for affinity."""

    def __init__(self, family: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = format_address(LOOPBACK[family])
        self._clock = clock
        self._ports: dict[int, _Port] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def listeners(self) -> int:
        """Number of node ports with a listener."""
        return len(self._ports)

    def sync(self, ports: Mapping[int, Served]) -> int:
        """Close obsolete listeners with their connections; open new ones and those that could not be opened before.

        Returns the number that could not be opened.
        """
        if self._loop is None:
            if not ports:
                return 0
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name=f"node ports on {self._host}", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(self._sync(dict(ports)), self._loop).result(SYNC_SECONDS)

    async def _sync(self, ports: dict[int, Served]) -> int:
        failures = 0
        for number in [number for number in self._ports if number not in ports]:
            self._ports.pop(number).close()
        for number, served in ports.items():
            if number in self._ports:
                self._ports[number].served = served
                continue
            port = _Port(served, self._clock)
            try:
                port.server = await asyncio.start_server(port.accept, self._host, number)
            except OSError as error:
                failures += 1
                _log.error(error, "Failed to listen for a node port on loopback", address=self._host, port=number)
                continue
            self._ports[number] = port
        return failures


@dataclass
class _Port:
    served: Served
    clock: Callable[[], float]
    server: asyncio.Server | None = None
    pinned: Target | None = None
    pinned_at: float = 0.0
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    def close(self) -> None:
        """Stop listening, and end every connection."""
        if self.server:
            self.server.close()
        for connection in self.connections:
            connection.cancel()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:

        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._forward(reader, writer)
        finally:
            self.connections.discard(task)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = self._choose()
        address, port = split_target(target)
        host = format_address(address)
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                from_endpoint, to_endpoint = await asyncio.open_connection(host, port)
        except OSError as error:  # TimeoutError is one
            _log.info("Failed to connect to an endpoint for a client on loopback", v=2, endpoint=f"{host}:{port}",
                      err=error)  # fmt: skip
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, to_endpoint))
                both.create_task(_copy(from_endpoint, writer))
        except* OSError:
            pass  # one side is gone: both are closed
        finally:
            to_endpoint.close()

    def _choose(self) -> Target:
        """A random endpoint, or with affinity the one last chosen, until its timeout."""
        endpoints, seconds = self.served
        now = self.clock()
        if not (seconds and self.pinned in endpoints and now - self.pinned_at < seconds):
            self.pinned = random.choice(sorted(endpoints))
        self.pinned_at = now
        assert self.pinned is not None
        return self.pinned


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy bytes until the end of the stream, then signal the end."""
    while chunk := await source.read(_CHUNK_BYTES):
        sink.write(chunk)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
