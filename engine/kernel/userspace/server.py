"""The proxy process: reads programs from its parent, maintains sockets and addresses accordingly, and forwards.

    python -m engine.kernel.userspace.server FD

FD is its end of a socket pair.  The process ends when the other end closes, for whatever reason, and removes the
addresses that it added.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys

import msgspec

from engine.addresses import parse_address
from engine.backends.userspace.program import UserspaceProgram
from engine.backends.userspace.tables import Tables
from engine.kernel.interface import KernelError
from engine.kernel.links import until_local
from engine.kernel.netlink import ROUTE, Connection
from engine.kernel.userspace.channel import APPLY, EVERYTHING, FINE, HEADER_BYTES, REFUSED, frame, unframe
from engine.kernel.userspace.listeners import Listeners
from engine.kernel.userspace.routing import Routing

LABEL = "lo:kube-proxy"
"""Label of IPv4 addresses, to identify leftovers."""
_IP_SECONDS = 50
"""Time limit of `ip`; twice that is less than the parent's limit for a reply."""


class Server:
    """The tables and sockets of both families behind one channel."""

    def __init__(self) -> None:
        self._tables: dict[int, Tables] = {}
        self._routing: dict[int, Routing] = {}
        self._listeners = Listeners()
        self._route = Connection(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, ROUTE))

    async def serve(self, channel: socket.socket) -> None:
        """Serve requests until the parent has ended."""
        reader, writer = await asyncio.open_connection(sock=channel)
        try:
            while True:
                number, kind, size = unframe(await reader.readexactly(HEADER_BYTES))
                body = await reader.readexactly(size)
                try:
                    answer = FINE, await self._answer(kind, body)
                except Exception as error:  # reported to the parent
                    answer = REFUSED, (str(error) or type(error).__name__).encode()
                writer.write(frame(number, *answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._end()

    async def _answer(self, kind: bytes, body: bytes) -> bytes:
        if kind == EVERYTHING:
            tables = self._tables.get(int(body))
            return tables.everything().encoded() if tables else b""
        assert kind == APPLY, f"unknown request {kind!r}"
        if problem := await self._apply(msgspec.json.decode(body, type=UserspaceProgram)):
            raise RuntimeError(problem)
        return b""

    async def _apply(self, program: UserspaceProgram) -> str:
        """Apply the program; returns an error message, empty on success."""
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
        problem = problem or await self._until_local(program)
        await _addresses("del", (*program.addresses_deleted, *sorted(unnamed)))
        if program.complete:
            gc.freeze()  # most initial objects are long-lived: exclude them from garbage collection
        return problem

    async def _until_local(self, program: UserspaceProgram) -> str:
        """Wait for IPv6 addresses in a thread, as connections go on; returns an error message, empty on success."""
        if program.family == 4 or not program.addresses_added:
            return ""
        try:
            await asyncio.to_thread(until_local, self._route, "lo", tuple(map(parse_address, program.addresses_added)))
        except KernelError as error:
            return str(error)
        return ""

    async def _end(self) -> None:
        self._listeners.close()
        for tables in self._tables.values():
            await _addresses("del", tuple(tables.addresses))


async def _addresses(verb: str, addresses: tuple[str, ...]) -> str:
    """Add or delete local addresses on loopback; returns an error message, empty on success."""
    if not addresses:
        return ""
    family = "-6" if ":" in addresses[0] else "-4"
    length, label = ("128", "") if family == "-6" else ("32", f" label {LABEL}")
    lines = [f"addr {verb} {address}/{length} dev lo{label}\n" for address in addresses]
    forgiving = ["-force"] if verb == "del" else []
    process = await asyncio.create_subprocess_exec(
        "ip", family, *forgiving, "-batch", "-",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        close_fds=False,  # our descriptors are not inheritable, and closing 10,000 would take longer than `ip`
    )  # fmt: skip
    try:
        _, error = await asyncio.wait_for(process.communicate("".join(lines).encode()), _IP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"ip timed out after {_IP_SECONDS:g} s"
    if process.returncode and verb != "del":
        return f"cannot add addresses to loopback: {error.decode(errors='replace').strip()}"
    return ""


def main() -> None:
    """Serve the channel whose descriptor is the argument."""
    # Ctrl-C is handled by the parent, whose end also ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(Server().serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
