"""Listening sockets, one per frontend, opened and closed by the tables; each new client goes to a forwarder.

readable socket -> accept -> TcpForwarder, or datagram -> UdpForwarder
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterable

from engine.kernel.userspace.forward_tcp import TcpForwarder
from engine.kernel.userspace.forward_udp import UdpForwarder
from engine.kernel.userspace.routing import Routing

SPARE_DESCRIPTORS = 1024
"""File descriptors reserved for connections; each takes two."""

ACCEPTS_AT_ONCE = 64
_BACKLOG = 512
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78


class Listeners:
    """Open sockets by frontend name, of both families."""

    def __init__(self) -> None:
        _, self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._limit, self._limit))
        self._open: dict[str, socket.socket] = {}
        self._tcp = TcpForwarder()
        self._udp = UdpForwarder()

    def settle(self, names: Iterable[str], routing: Routing, stale: set[str]) -> str:
        """Open and close the sockets of `names` as required; returns an error message, empty on success.

        UDP flows to `stale` targets end, like their conntrack entries in other modes (CT).
        """
        self._udp.leave(stale)
        wanted = {name: routing.tables.wants(name) for name in names}
        for name in sorted(name for name, wants in wanted.items() if not wants and name in self._open):
            self._shut(name)
        missing = sorted(name for name, wants in wanted.items() if wants and name not in self._open)
        problem = self._too_many(len(missing))
        if problem:
            return problem
        problems = [text for text in (self._listen(name, routing) for name in missing) if text]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return f"{problems[0]}{more}" if problems else ""

    def close(self) -> None:
        """Close every socket and end every connection."""
        for name in list(self._open):
            self._shut(name)
        self._tcp.close()
        self._udp.close()

    def _too_many(self, missing: int) -> str:
        wanted = len(self._open) + missing
        self._tcp.limit = self._udp.limit = max(16, (self._limit - wanted) // 4)
        if not missing or wanted + SPARE_DESCRIPTORS <= self._limit:
            return ""
        return (
            f"userspace mode needs a listening socket for each address and port: {wanted:,} here, but"
            f" RLIMIT_NOFILE allows {self._limit:,} open files, of which {SPARE_DESCRIPTORS:,} are for connections;"
            " raise the hard limit (ulimit -Hn, LimitNOFILE=), or use another mode"
        )

    def _listen(self, name: str, routing: Routing) -> str:
        host, port, protocol = _parts(name)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        listener = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        try:
            _prepare(listener, family, kind)
            listener.bind((host, port))
            if kind == socket.SOCK_STREAM:
                listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            return f"cannot listen on {name}: {error.strerror}"
        self._open[name] = listener
        take = self._accept if kind == socket.SOCK_STREAM else self._udp.receive
        asyncio.get_running_loop().add_reader(listener.fileno(), take, name, listener, routing)
        return ""

    def _accept(self, name: str, listener: socket.socket, routing: Routing) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                client, source = listener.accept()
            except OSError:  # no client left, or it has disconnected
                return
            self._tcp.take(client, source[0], name, routing)

    def _shut(self, name: str) -> None:
        listener = self._open.pop(name)
        asyncio.get_running_loop().remove_reader(listener.fileno())
        self._udp.drop(name)
        listener.close()


def _prepare(listener: socket.socket, family: int, kind: int) -> None:
    if kind == socket.SOCK_STREAM:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # A node's address may be added later, or belong to a replayed node.
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_FREEBIND) if family == socket.AF_INET6 else (socket.IPPROTO_IP, _IP_FREEBIND)
    )
    listener.setsockopt(level, option, 1)


def _parts(name: str) -> tuple[str, int, str]:
    place, _, protocol = name.rpartition("/")
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port), protocol
