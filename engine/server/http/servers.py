"""Small HTTP servers, a thread each that sleeps in `accept`: an idle one costs nothing.

A `Handler` is a function from path and query to an `Answer`; which ones there are is others' business.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

from engine.server.logs import get_log

_CLIENT_SECONDS = 30
_EVERY_ADDRESS = ("", "0.0.0.0", "::")

_log = get_log(__name__)


class Answer(NamedTuple):
    """What a client gets."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[str, str], Answer]
"""handler(path, query) -> Answer"""

NOT_FOUND = Answer(404, b"404 page not found\n", headers=(("X-Content-Type-Options", "nosniff"),))


class Server:
    """Listens from the start (OSError when it cannot) until `close`.

    `host` "", "0.0.0.0" and "::" are every address of both families, as for Go's programs: a kubelet that knows
    the node by its IPv6 address finds 0.0.0.0:10256 too.
    """

    def __init__(self, host: str, port: int, handler: Handler) -> None:
        self._server = _listening(host, port, handler)
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name=f"http {host}:{port}", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.server_address[1]

    def close(self) -> None:
        """Stop listening; answers that are under way are finished."""
        self._closed = True
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._thread.join()
        self._server.server_close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                request, client = self._server.get_request()
            except OSError:
                continue
            self._server.process_request(request, client)


def _listening(host: str, port: int, handler: Handler) -> socketserver.TCPServer:
    both = host in _EVERY_ADDRESS and socket.has_dualstack_ipv6()

    # Not http.server's own, which asks DNS for the name of what it listens on.
    class Listener(socketserver.ThreadingTCPServer):
        address_family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def server_bind(self) -> None:
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
            super().server_bind()

        def handle_error(self, request, client_address) -> None:
            if isinstance(error := sys.exception(), OSError):
                _log.info("A client went away", v=4, port=port, err=error)
            else:
                _log.error(error, "A request could not be answered", port=port)

    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "proxy-engine", ""
        timeout = _CLIENT_SECONDS
        disable_nagle_algorithm = True
        wbufsize = -1  # one packet an answer

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
                self.close_connection = True  # nobody here reads one

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer

    return Listener(("::" if both else host, port), Request)
