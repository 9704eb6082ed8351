"""A pod's application, run in its namespace: HTTP, TCP and UDP servers that identify themselves.

    python -I -S pod_server.py NAME NODE FOLDER DRAIN_SECONDS HTTP_PORT TCP_PORT UDP_PORT

`GET /` answers with the pod's and node's names in headers and body, `GET /healthz` according to the word in
FOLDER/health, read each time: `ok` 200, `fail` 503, `hang` no answer at all.  TCP greets with the names and echoes; UDP
sends the names, a space and the received data.  On SIGTERM it keeps serving for DRAIN_SECONDS, closing each connection
after its answer, then exits, as a well-behaved application does.  It uses only the standard library, to start in tens
of milliseconds.
"""

import asyncio
import signal
import sys
from typing import Any, cast


class Http(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and pipelining, for requests without a body."""

    def __init__(self, app: "App") -> None:
        self.app = app
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self.rest = (self.rest + data).split(b"\r\n\r\n")
        if len(self.rest) > 65536:
            self.transport.close()
            return
        for request in requests:
            line = request.split(b"\r\n", 1)[0].split(b" ")
            answer = self.app.answer(line[1] if len(line) > 1 else b"/")
            if answer is None:
                return
            self.transport.write(answer)
            if self.app.draining or b"connection: close" in request.lower() or line[-1] == b"HTTP/1.0":
                self.transport.close()


class Tcp(asyncio.Protocol):
    """Greets, then echoes."""

    def __init__(self, app: "App") -> None:
        self.app = app

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.app.identity + b"\n")

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Udp(asyncio.DatagramProtocol):
    """Echoes, prefixed with its names."""

    def __init__(self, app: "App") -> None:
        self.app = app

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: before Python 3.11.3 a datagram endpoint's transport is not an instance of DatagramTransport.
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[Any, ...]) -> None:
        self.transport.sendto(self.app.identity + b" " + data, address)


class App:
    """The answers of all three servers."""

    def __init__(self, name: str, node: str, folder: str) -> None:
        self.identity = f"{name} {node}".encode()
        self.health = f"{folder}/health"
        head = f"X-Pod: {name}\r\nX-Node: {node}\r\n"
        self.draining = False
        self.ok = response("200 OK", head, f"{name} {node}\n")
        self.last = response("200 OK", f"{head}Connection: close\r\n", f"{name} {node}\n")
        self.sick = response("503 Service Unavailable", head, "not ready\n")

    def answer(self, path: bytes) -> bytes | None:
        if path != b"/healthz":
            return self.last if self.draining else self.ok
        with open(self.health) as file:
            word = file.read().strip()
        return {"ok": self.ok, "hang": None}.get(word, self.sick)


def response(status: str, head: str, body: str) -> bytes:
    """One HTTP response with its length."""
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def main(name: str, node: str, folder: str, drain: str, http: str, tcp: str, udp: str) -> None:
    loop, app = asyncio.get_running_loop(), App(name, node, folder)
    await loop.create_server(lambda: Http(app), "0.0.0.0", int(http), backlog=4096)
    await loop.create_server(lambda: Tcp(app), "0.0.0.0", int(tcp), backlog=4096)
    await loop.create_datagram_endpoint(lambda: Udp(app), ("0.0.0.0", int(udp)))
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    app.draining = True
    await asyncio.sleep(float(drain))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
