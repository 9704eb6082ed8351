"""One request, from its socket to its outcome. Cooperative: used from greenlets of a patched process."""

from __future__ import annotations

import errno
import socket
import time
from typing import NamedTuple

from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketResponse

from loadtests.flows import HTTP, HTTP_KEEPALIVE, TCP, UDP_KEPT, FlowDestination

_CAUSES = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "no local port",
    errno.EMFILE: "no local file",
}
REPLY_BYTES = 4096


Local = tuple[str, int]
"""The local address and port."""


class RequestOutcome(NamedTuple):
    """The outcome of a request: `cause` "" means an answer, by `pod` on `node`.

    `source` identifies the flow in connection tracking, None if there was no flow.
    """

    cause: str
    pod: str = ""
    node: str = ""
    source: Local | None = None


def cause_of(error: BaseException) -> str:
    """A short name for an error of a socket or parser."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, HTTPConnectionClosed):
        return "no answer"
    if isinstance(error, HTTPParseError):
        return "wrong answer"
    if isinstance(error, OSError):
        return _CAUSES.get(error.errno or 0, error.strerror or type(error).__name__)
    return type(error).__name__


class LoadClient:
    """Sends requests of all kinds; idle kept-alive connections are shared by all of a process's users."""

    def __init__(self, timeout_seconds: float, most_idle: int = 64, named: bool = True, http_path: str = "/") -> None:
        """`named`: an answer must identify its pod, as the lab's pods do."""
        self._timeout, self._most_idle = timeout_seconds, most_idle
        self._named, self._path = named, http_path.encode()
        self._idle: dict[FlowDestination, list[socket.socket]] = {}
        self._ports: dict[FlowDestination, list[tuple[socket.socket, str]]] = {}

    def send(self, kind: str, to: FlowDestination, token: bytes) -> RequestOutcome:
        """Execute one request; network errors are never raised."""
        if kind == HTTP_KEEPALIVE:
            return self._kept_alive(to)
        if kind == UDP_KEPT:
            return self._from_the_same_port(to, token)
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind in (HTTP, TCP) else socket.SOCK_DGRAM)
        try:
            return self._once(made, kind, to, token)
        finally:
            made.close()

    def _once(self, sock: socket.socket, kind: str, to: FlowDestination, token: bytes) -> RequestOutcome:
        source = None
        try:
            source = self._begin(sock, to)
            sock.connect((to.address, to.port))
            if kind == HTTP:
                return self._http(sock, to, b"close", source)[0]
            return self._tcp(sock, source) if kind == TCP else self._udp(sock, token, source)
        except (OSError, HTTPConnectionClosed, HTTPParseError) as error:
            return RequestOutcome(cause_of(error), source=source)

    def _begin(self, sock: socket.socket, to: FlowDestination) -> Local:
        """Begin to connect without waiting, to learn the local address, which is lost if the connection is refused."""
        sock.settimeout(0)
        sock.connect_ex((to.address, to.port))
        sock.settimeout(self._timeout)
        return _local_end(sock)

    def _kept_alive(self, to: FlowDestination) -> RequestOutcome:
        """Use an idle connection if there is one; if that turns out to be closed, retry once over a new one.

        A server may close an idle connection at any time, which is not a failure (RFC 9110, 9.2.2).
        """
        idle = self._idle.setdefault(to, [])
        if idle:
            outcome = self._over(idle.pop(), to, idle)
            if outcome.cause not in ("reset", "no answer"):
                return outcome
        return self._over(None, to, idle)

    def _over(self, kept: socket.socket | None, to: FlowDestination, idle: list[socket.socket]) -> RequestOutcome:
        sock = kept or socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        source = None
        try:
            source = _local_end(kept) if kept else self._begin(sock, to)
            if not kept:
                sock.connect((to.address, to.port))
            outcome, reusable = self._http(sock, to, b"keep-alive", source)
        except (OSError, HTTPConnectionClosed, HTTPParseError) as error:
            outcome, reusable = RequestOutcome(cause_of(error), source=source), False
        if reusable and len(idle) < self._most_idle:
            idle.append(sock)
        else:
            sock.close()
        return outcome

    def _http(
        self, sock: socket.socket, to: FlowDestination, connection: bytes, source: Local | None
    ) -> tuple[RequestOutcome, bool]:
        """One exchange, and whether the connection may be used again."""
        words = (self._path, str(to).encode(), connection)
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\n\r\n" % words)
        response = HTTPSocketResponse(sock, method="GET")
        response.read()
        pod, node = _header(response, "x-pod"), _header(response, "x-node")
        cause = "" if pod or not self._named else "wrong answer"
        if not 200 <= response.status_code < 400:
            cause = f"status {response.status_code}"
        return RequestOutcome(cause, pod, node, source), not response.should_close()

    def _tcp(self, sock: socket.socket, source: Local | None) -> RequestOutcome:
        if not self._named:
            return RequestOutcome("", source=source)
        greeting = b""
        while not greeting.endswith(b"\n"):
            piece = sock.recv(REPLY_BYTES)
            if not piece:
                return RequestOutcome("no answer", source=source)
            greeting += piece
        return _named(greeting.split(), source)

    def _from_the_same_port(self, to: FlowDestination, token: bytes) -> RequestOutcome:
        """Use one socket for all requests, as a resolver or a tracing client does: connection tracking keeps its flow.

        The flow keeps its endpoint, so a lost request was sent to the pod that answered last.
        """
        kept, source = self._ports.setdefault(to, []), None
        sock, pod = kept.pop() if kept else (socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "")
        try:
            sock.settimeout(self._timeout)
            sock.connect((to.address, to.port))
            source = _local_end(sock)
            outcome = self._udp(sock, token, source)
        except OSError as error:
            outcome = RequestOutcome(cause_of(error), pod, source=source)
        kept.append((sock, outcome.pod))
        return outcome

    def _udp(self, sock: socket.socket, token: bytes, source: Local | None) -> RequestOutcome:
        sock.send(token)
        deadline = time.monotonic() + self._timeout
        while True:
            words = sock.recv(REPLY_BYTES).split()
            if not self._named:
                return RequestOutcome("", source=source)
            if words[2:] == [token]:
                return _named(words[:2], source)
            sock.settimeout(max(1e-3, deadline - time.monotonic()))  # a late answer to an earlier request


def _local_end(sock: socket.socket) -> Local:
    address, port = sock.getsockname()
    return address, port


def _header(response: HTTPSocketResponse, name: str) -> str:
    """The header's first value, "" if it is missing."""
    found = response.get(name, "")
    return found if isinstance(found, str) else next(iter(found or ()), "")


def _named(words: list[bytes], source: Local | None) -> RequestOutcome:
    if len(words) != 2:
        return RequestOutcome("wrong answer", source=source)
    return RequestOutcome("", words[0].decode(), words[1].decode(), source)
