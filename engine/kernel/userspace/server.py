"""The proxy process: reads programs from its parent, keeps sockets and addresses as they say, forwards.

    python -m engine.kernel.userspace.server FD

FD is its end of a socket pair.  It ends when the other end closes, for whatever reason, and takes the
addresses that it added along.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys

import msgspec

from engine.backends.userspace.program import UserspaceProgram
from engine.backends.userspace.tables import Tables
from engine.kernel.userspace.channel import APPLY, EVERYTHING, FINE, HEADER_BYTES, REFUSED, frame, unframe
from engine.kernel.userspace.listeners import Listeners
from engine.kernel.userspace.routing import Routing

LABEL = "lo:kube-proxy"
"""IPv4 addresses are labelled, so that leftovers can be told."""


class Server:
    """Both families' tables and sockets behind one channel."""

    def __init__(self) -> None:
        self._tables: dict[int, Tables] = {}
        self._routing: dict[int, Routing] = {}
        self._listeners = Listeners()

    async def serve(self, channel: socket.socket) -> None:
        """Answer until the parent is gone."""
        reader, writer = await asyncio.open_connection(sock=channel)
        try:
            while True:
                kind, size = unframe(await reader.readexactly(HEADER_BYTES))
                answer = await self._answer(kind, await reader.readexactly(size))
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._end()

    async def _answer(self, kind: bytes, body: bytes) -> bytes:
        if kind == EVERYTHING:
            tables = self._tables.get(int(body))
            return frame(FINE, tables.everything().encoded() if tables else b"")
        assert kind == APPLY, f"unknown request {kind!r}"
        problem = await self._apply(msgspec.json.decode(body, type=UserspaceProgram))
        return frame(REFUSED, problem.encode()) if problem else frame(FINE, b"")

    async def _apply(self, program: UserspaceProgram) -> str:
        """Bring all to the program's end; what is wrong, or nothing."""
        family = program.family
        if family not in self._tables:
            self._tables[family] = Tables(family)
            self._routing[family] = Routing(self._tables[family])
        held = set(self._tables[family].addresses) if program.complete else set()
        touched = self._tables[family].apply(program)
        unnamed = held - self._tables[family].addresses
        problem = await _addresses("replace", program.addresses_added)
        stale = self._routing[family].update(program)
        problem = problem or self._listeners.settle(touched, self._routing[family], stale)
        await _addresses("del", (*program.addresses_deleted, *sorted(unnamed)))
        if program.complete:
            gc.freeze()  # what came first mostly stays: it need not be walked at each collection
        return problem

    async def _end(self) -> None:
        self._listeners.close()
        for tables in self._tables.values():
            await _addresses("del", tuple(tables.addresses))


async def _addresses(verb: str, addresses: tuple[str, ...]) -> str:
    """Add or delete local addresses on loopback; what `ip` says is wrong."""
    if not addresses:
        return ""
    family = "-6" if ":" in addresses[0] else "-4"
    length, label = ("128", "") if family == "-6" else ("32", f" label {LABEL}")
    lines = [f"addr {verb} {address}/{length} dev lo{label}\n" for address in addresses]
    forgiving = ["-force"] if verb == "del" else []
    process = await asyncio.create_subprocess_exec(
        "ip", family, *forgiving, "-batch", "-",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        close_fds=False,  # none of ours is inheritable, and to look through 10,000 takes longer than `ip` does
    )  # fmt: skip
    _, error = await process.communicate("".join(lines).encode())
    if process.returncode and verb != "del":
        return f"cannot add addresses to loopback: {error.decode(errors='replace').strip()}"
    return ""


def main() -> None:
    """Serve the channel whose descriptor is the argument."""
    # Ctrl-C is for the parent, whose end is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(Server().serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
