"""UDP: a flow for each client of a frontend, with its own socket to the endpoint, until it is idle."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable

from engine.kernel.userspace.routing import Routing

IDLE_SECONDS = 30.0
"""The timeout of conntrack for a flow without replies."""

_SWEEP_SECONDS = 5.0
_AT_ONCE = 64
_DATAGRAM_BYTES = 1 << 16

Client = tuple[str, int]
"""A source address as recvfrom gives it."""


class Flow:
    """One client's datagrams to one endpoint; `used` is the time of the last one, in monotonic seconds."""

    def __init__(self, upstream: socket.socket, target: str, used: float) -> None:
        self.upstream, self.target, self.used = upstream, target, used


class UdpForwarder:
    """Flows by frontend and client, at most `limit`; rejected datagrams are not answered."""

    def __init__(self) -> None:
        self.limit = 16
        self._flows: dict[tuple[str, Client], Flow] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def receive(self, frontend: str, listener: socket.socket, routing: Routing) -> None:
        """Forward the datagrams of a listening socket."""
        for _ in range(_AT_ONCE):
            try:
                data, client = listener.recvfrom(_DATAGRAM_BYTES)
            except OSError:  # empty
                return
            flow = self._flows.get((frontend, client)) or self._open(frontend, client, listener, routing)
            if flow is not None:
                flow.used = time.monotonic()
                with contextlib.suppress(OSError):  # datagrams may be lost
                    flow.upstream.send(data)

    def leave(self, targets: Iterable[str]) -> None:
        """End the flows to removed endpoints: the client's next datagram goes to another one."""
        gone = set(targets)
        for key in [key for key, flow in self._flows.items() if flow.target in gone] if gone else ():
            self._end(key)

    def drop(self, frontend: str) -> None:
        """End the flows of a frontend that closes."""
        for key in [key for key in self._flows if key[0] == frontend]:
            self._end(key)

    def close(self) -> None:
        """End all flows."""
        for key in list(self._flows):
            self._end(key)
        if self._sweeper:
            self._sweeper.cancel()

    def _open(self, frontend: str, client: Client, listener: socket.socket, routing: Routing) -> Flow | None:
        target = routing.pick(frontend, client[0])
        if target is None or len(self._flows) >= self.limit:
            return None
        host, _, port = target.rpartition(":")
        upstream = socket.socket(listener.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            upstream.connect((host.strip("[]"), int(port)))
        except OSError:  # no route
            upstream.close()
            return None
        flow = self._flows[frontend, client] = Flow(upstream, target, time.monotonic())
        loop = asyncio.get_running_loop()
        loop.add_reader(upstream.fileno(), self._answer, (frontend, client), flow, listener)
        self._sweeper = self._sweeper or loop.call_later(_SWEEP_SECONDS, self._sweep)
        return flow

    def _answer(self, key: tuple[str, Client], flow: Flow, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = flow.upstream.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:  # port closed: the next datagram goes to the next endpoint
                self._end(key)
                return
            flow.used = time.monotonic()
            with contextlib.suppress(OSError):
                listener.sendto(data, key[1])

    def _sweep(self) -> None:
        now = time.monotonic()
        for key in [key for key, flow in self._flows.items() if flow.used + IDLE_SECONDS < now]:
            self._end(key)
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep) if self._flows else None

    def _end(self, key: tuple[str, Client]) -> None:
        flow = self._flows.pop(key)
        asyncio.get_running_loop().remove_reader(flow.upstream.fileno())
        flow.upstream.close()
