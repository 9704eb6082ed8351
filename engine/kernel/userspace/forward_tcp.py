"""TCP: connect to an endpoint for each accepted connection and copy in both directions, including half-closes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from engine.kernel.userspace.routing import Routing

DIAL_SECONDS = (0.25, 0.5, 1.0, 2.0)
"""Time limit of each attempt; each attempt uses another endpoint."""

_CHUNK_BYTES = 1 << 16
_RESET = struct.pack("=ii", 1, 0)


class TcpForwarder:
    """Open connections, at most `limit`; rejected ones are reset, as the kernel has already accepted them."""

    def __init__(self) -> None:
        self.limit = 16
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, client: socket.socket, source: str, frontend: str, routing: Routing) -> None:
        """Forward one accepted connection, or reset it."""
        client.setblocking(False)
        if len(self._tasks) >= self.limit or routing.choose(frontend, source) is None:
            reset(client)
            return
        task = asyncio.get_running_loop().create_task(_forward(client, source, frontend, routing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()


async def _forward(client: socket.socket, source: str, frontend: str, routing: Routing) -> None:
    upstream = None
    try:
        upstream = await _dial(source, frontend, routing)
        if upstream is None:
            reset(client)
            return
        for end in (client, upstream):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(client, upstream))
            both.create_task(_copy(upstream, client))
    except* OSError:
        reset(client)
        if upstream:
            reset(upstream)
    finally:
        client.close()
        if upstream:
            upstream.close()


async def _dial(source: str, frontend: str, routing: Routing) -> socket.socket | None:
    """A connection to the next endpoint in turn, or to the following ones if it does not answer."""
    for tried, seconds in enumerate(DIAL_SECONDS):
        target = routing.pick(frontend, source, again=tried > 0)
        if target is None:
            return None
        host, _, port = target.rpartition(":")
        host = host.strip("[]")
        upstream = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        upstream.setblocking(False)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(upstream, (host, int(port)))
            return upstream
        except OSError:  # includes TimeoutError
            upstream.close()
        except BaseException:
            upstream.close()
            raise
    return None


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until the end of the stream, then signal the end; OSError if either connection breaks."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    while count := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:count])
    with contextlib.suppress(OSError):  # closed: the other direction will fail
        sink.shutdown(socket.SHUT_WR)


def reset(connection: socket.socket) -> None:
    """Close with a RST instead of a FIN."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
