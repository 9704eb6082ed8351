"""Small HTTP servers, each with a thread that blocks in `accept`.

A `Handler` is a function from path and query to an `Answer`; callers define the handlers.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

from engine.server.runtime.logs import get_log

_CLIENT_SECONDS = 30
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.01, 1.0
_EVERY_ADDRESS = ("", "0.0.0.0", "::")

_log = get_log(__name__)


class Answer(NamedTuple):
    """A response."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[str, str], Answer]
"""handler(path, query) -> Answer"""

NOT_FOUND = Answer(404, b"404 page not found\n", headers=(("X-Content-Type-Options", "nosniff"),))


class HttpListener:
    """Listens from its creation (OSError if it cannot) until `close`.

    `host` "", "0.0.0.0" and "::" mean all addresses of both families, as in Go programs: a kubelet that uses the
    node's IPv6 address reaches 0.0.0.0:10256 too.  With a `family`, 4 or 6, they mean only that family.
    """

    def __init__(self, host: str, port: int, handler: Handler, family: int | None = None) -> None:
        self._server = _listening(host, port, handler, family)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._accept, name=f"http {host}:{port}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no thread available: reported like an address in use
            self._server.server_close()
            raise OSError(errno.EAGAIN, str(error)) from None

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.server_address[1]

    def close(self) -> None:
        """Stop listening; responses in progress are completed."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._thread.join()
        self._server.server_close()

    def _accept(self) -> None:
        """Accept clients until closed; if no file descriptor or thread is available, drop the client or wait."""
        pause = 0.0
        while not self._closed.is_set():
            request = None
            try:
                request, client = self._server.get_request()
                self._server.process_request(request, client)
                pause = 0.0
            except Exception as error:  # out of files or threads, or a bug: this thread must continue
                if self._closed.is_set():
                    return
                if request is not None:
                    self._server.shutdown_request(request)
                if not pause:
                    _log.error(error, "Failed to accept a connection", port=self.port)
                pause = min(2 * pause or _FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS)
                self._closed.wait(pause)


def _listening(host: str, port: int, handler: Handler, family: int | None) -> socketserver.TCPServer:
    everywhere = host in _EVERY_ADDRESS
    both = everywhere and family is None and socket.has_dualstack_ipv6()
    six = both or family == 6 or ":" in host

    # http.server's own class would look up the name of its address in DNS.
    class Listener(socketserver.ThreadingTCPServer):
        address_family = socket.AF_INET6 if six else socket.AF_INET
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def server_bind(self) -> None:
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
            super().server_bind()

        def handle_error(self, request: object, client_address: object) -> None:
            if isinstance(error := sys.exception(), OSError):
                _log.info("Client disconnected", v=4, port=port, err=error)
            else:
                _log.error(error, "Failed to answer a request", port=port)

    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "proxy-engine", ""
        timeout = _CLIENT_SECONDS
        disable_nagle_algorithm = True
        wbufsize = -1  # one packet per response

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            self._skip_body()
            path, _, query = self.path.partition("?")
            answer = handler(path, query)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def _skip_body(self) -> None:
            if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
                self.close_connection = True  # request bodies are not read

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer

    return Listener((("::" if six else "") if everywhere else host, port), Request)
