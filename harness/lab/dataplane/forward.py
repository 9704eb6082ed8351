"""Ports of the lab's namespaces, reachable from outside: a browser can look at a page that is served in there.

127.0.0.1:PORT here -> Unix socket in the lab's folder -> supervisor -> socket made in the namespace
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from harness.lab import network
from harness.lab.control import LabClient

_CHUNK = 1 << 16


async def serve_inside(path: Path, namespace: str, port: int) -> asyncio.Server:
    """In the supervisor: each connection to the Unix socket becomes one to that port of the namespace's loopback."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            sock = network.make_socket(namespace)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            await _join(reader, writer, *await asyncio.open_connection(sock=sock))
        except OSError:
            writer.close()  # nothing listens there: the other side sees its connection end

    return await asyncio.start_unix_server(client, path)


async def forward(client: LabClient, namespace: str, port: int, local_port: int, ready) -> None:
    """Out here, until cancelled: accept on loopback; `ready(port)` is told which port it became."""
    path = client.call("forward.open", namespace=namespace, port=port)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _join(reader, writer, *await asyncio.open_unix_connection(path))
        except OSError:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", local_port)
    async with server:
        ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()


async def _join(reader, writer, other_reader, other_writer) -> None:
    """Both directions, until both have ended."""
    await asyncio.gather(_pump(reader, other_writer), _pump(other_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass  # one side is gone: the other learns it by the end below
    finally:
        writer.close()
