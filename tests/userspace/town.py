"""A node, and clients across a link: two namespaces with real sockets, endpoints that report the caller.

outside: 203.0.113.2 (external), 10.9.0.2 (a pod elsewhere)  <--veth-->  node: 192.168.0.2, endpoints
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
from contextlib import ExitStack

from harness.acceptance.cases import RESOURCES
from harness.judge.oracle import Settings
from harness.modes import mode_of
from harness.places.namespace import Namespace
from harness.places.place import Place
from tests.cases.synced import synced

EXTERNAL, OTHER_POD, NODE = "203.0.113.2", "10.9.0.2", "192.168.0.2"
SETTINGS = Settings(cluster_cidr="10.0.0.0/8,fd00:10::/32", node_ips=(NODE, "2001:db8::1"))
WAIT_SECONDS = 5.0


class Endpoints:
    """Answers each connection or datagram with `endpoint caller`; a thread over sockets of the node's namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._ready = selectors.DefaultSelector()
        self._end, self._wake = socket.socketpair()
        self._ready.register(self._end, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def listen(self, address: str, port: int, kind: int = socket.SOCK_STREAM) -> None:
        """One more endpoint; call before `start`."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = self._namespace.socket(family, kind)
        listener.bind((address, port))
        if kind == socket.SOCK_STREAM:
            listener.listen(64)
        self._ready.register(listener, selectors.EVENT_READ)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close all."""
        self._wake.close()
        self._thread.join(WAIT_SECONDS)
        for key in list(self._ready.get_map().values()):
            key.fileobj.close()

    def _answer(self) -> None:
        while True:
            for key, _ in self._ready.select():
                sock = key.fileobj
                if sock is self._end:
                    return
                if sock.type == socket.SOCK_DGRAM:
                    _, caller = sock.recvfrom(1024)
                    sock.sendto(f"{sock.getsockname()[0]} {caller[0]}".encode(), caller)
                    continue
                connection, caller = sock.accept()
                with connection:
                    connection.settimeout(WAIT_SECONDS)
                    asked = b"".join(iter(lambda c=connection: c.recv(65536), b""))
                    said = f"{sock.getsockname()[0]} {caller[0]}".encode()
                    connection.sendall(said if len(asked) < 64 else asked)


class Town:
    """Context manager: namespaces, endpoints, and the node's proxy in some mode; `options` are its kernel's."""

    def __init__(self, mode: str = "userspace", **options) -> None:
        self.mode, self._module, self._options = mode, mode_of(mode), options

    def __enter__(self) -> Town:
        self._stack = ExitStack()
        self.node = self._stack.enter_context(Namespace(user=self._module.user_namespace))
        self.outside = self._stack.enter_context(Namespace(beside=self.node))
        self._batch(self.node, f"link add eth0 type veth peer name eth0 netns {self.outside.pid}")
        addresses = (f"{NODE}/32", "203.0.113.1/24", "2001:db8::1/64 nodad")
        self._batch(self.node, "link set eth0 up", *(f"addr add {a} dev eth0" for a in addresses))
        self._batch(self.node, f"route add {OTHER_POD}/32 dev eth0")
        self._batch(
            self.outside, "link set eth0 up", f"addr add {EXTERNAL}/24 dev eth0", f"addr add {OTHER_POD}/32 dev eth0",
            "addr add 2001:db8::2/64 dev eth0 nodad", "route add default via 203.0.113.1",
            "route add default via 2001:db8::1",
        )  # fmt: skip
        self.endpoints = Endpoints(self.node)
        place = Place("netns", self.node.socket, self.node.run, self.node.start)
        self.opened = self._stack.enter_context(self._module.real(place, **self._options))
        return self

    def __exit__(self, *_exception) -> None:
        self.endpoints.stop()
        self._stack.close()

    @staticmethod
    def _batch(namespace: Namespace, *lines: str) -> None:
        done = namespace.run(["ip", "-batch", "-"], "".join(f"{line}\n" for line in lines).encode())
        assert done.returncode == 0, done.stderr

    def live(self, addresses: list[str], port: int, kind: int = socket.SOCK_STREAM) -> None:
        """Put endpoints' addresses on the node, where each answers."""
        self._batch(self.node, *(f"addr add {a}/{128 if ':' in a else 32} dev eth0 nodad" for a in addresses))
        for address in addresses:
            self.endpoints.listen(address, port, kind)
        self.endpoints.start()

    def sync(self, *objects: dict):
        """A proxier that has observed these objects and has synced."""
        events = [("ADDED", RESOURCES[each["kind"]], json.dumps(each).encode()) for each in objects]
        return synced(self.mode, events, SETTINGS, self.opened.kernel)

    def connect(self, source: str | None, address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A client: from the node itself when `source` is None, else from beyond the link."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        client = (self.outside if source else self.node).socket(family, kind)
        client.settimeout(WAIT_SECONDS)
        if source:
            client.bind((source, 0))
        client.connect((address, port))
        return client

    def ask(self, source: str | None, address: str, port: int, kind: int = socket.SOCK_STREAM) -> list[str]:
        """[endpoint, caller as it saw it], or ["refused"]."""
        try:
            with self.connect(source, address, port, kind) as client:
                client.send(b"who?")
                if kind == socket.SOCK_STREAM:
                    client.shutdown(socket.SHUT_WR)
                said = client.recv(1024)
                return said.decode().split() if said else ["closed"]
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            return ["refused"]
        except OSError as error:
            if kind == socket.SOCK_STREAM and error.errno == 107:  # reset before our end was closed
                return ["refused"]
            raise
