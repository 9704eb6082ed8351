"""Forwards ports of the lab's namespaces to the outside, for example for a browser.

127.0.0.1:PORT here -> Unix socket in the lab's folder -> supervisor -> socket made in the namespace
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from harness.lab.control import LabClient
from harness.lab.dataplane import network

_CHUNK = 1 << 16


async def serve_inside(path: Path, namespace: str, port: int) -> asyncio.Server:
    """In the supervisor: forward each connection to the Unix socket to the port on the namespace's loopback."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            sock = network.make_socket(namespace)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            await _join(reader, writer, *await asyncio.open_connection(sock=sock))
        except OSError:
            writer.close()  # nothing listens there: close the connection

    return await asyncio.start_unix_server(client, path)


async def forward(client: LabClient, namespace: str, port: int, local_port: int, ready: Callable[[int], None]) -> None:
    """Outside the lab, until cancelled: listen on loopback; `ready(port)` is called with the port."""
    path = client.forward_open(namespace, port)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _join(reader, writer, *await asyncio.open_unix_connection(path))
        except OSError:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", local_port)
    async with server:
        ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    other_reader: asyncio.StreamReader,
    other_writer: asyncio.StreamWriter,
) -> None:
    """Copy both directions until both have ended."""
    await asyncio.gather(_pump(reader, other_writer), _pump(other_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass  # one side is gone: the other is closed below
    finally:
        writer.close()
