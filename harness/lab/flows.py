"""Which endpoint a flow went to: from the new flows that each node's connection tracking announced, or by asking it.

A refused connection is forgotten by the kernel at once, so a thread a node listens to ctnetlink's announcements and
keeps those of the last while; a flow that lives on can still be asked for.  Messages of IPv4 TCP and UDP begin with
both directions in a fixed layout, so an announcement is kept as the bytes it is: original direction -> reply.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterable
from typing import Any

from harness.lab import network
from harness.lab.ctnetlink import ERROR, GET, HEADER_BYTES, NETLINK_NETFILTER, ORIGINAL, REQUEST, direction, message

_SOL_NETLINK, _ADD_MEMBERSHIP, _NO_ENOBUFS, _RCVBUFFORCE = 270, 1, 5, 33
_GROUP_NEW = 1
_PROTOCOLS = {"tcp": 6, "udp": 17}
_BUFFER_BYTES = 8 << 20
_TUPLE = 52
_ADDRESS, _PORT = slice(12, 16), slice(40, 42)
"""Of the reply's source, within its tuple."""
KEPT_SECONDS = 10.0


def tuple_of(flow: dict[str, Any]) -> bytes:
    """The original direction of a flow, as the kernel writes it."""
    ends = [(socket.inet_aton(flow[a]), flow[p]) for a, p in (("source", "source_port"), ("address", "port"))]
    return direction(ORIGINAL, _PROTOCOLS[flow["protocol"]], *ends)


class NodeFlows:
    """One node's: new flows of the last `KEPT_SECONDS`, at least."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._new: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._asking = self._socket()
        self._listening = self._socket()
        self._listening.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        try:
            self._listening.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._listening.bind((0, 0))  # without an address of its own a socket counts as the sender
        self._listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NEW)
        threading.Thread(target=self._listen, name=f"flows-{node}", daemon=True).start()

    def _socket(self) -> socket.socket:
        with network.entered(self._node):
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)

    def _listen(self) -> None:
        turned = time.monotonic()
        while True:
            data = self._listening.recv(1 << 16)
            if time.monotonic() - turned > KEPT_SECONDS:
                self._old, self._new, turned = self._new, {}, time.monotonic()
            offset = 0
            while offset + HEADER_BYTES < len(data):
                start = offset + HEADER_BYTES
                self._new[data[start : start + _TUPLE]] = data[start + _TUPLE : start + 2 * _TUPLE]
                offset += (struct.unpack_from("=I", data, offset)[0] + 3) & ~3

    def find(self, original: bytes) -> tuple[str, int] | None:
        """Address and port that answer the flow; None when the node does not know it."""
        reply = self._new.get(original) or self._old.get(original) or self._ask(original)
        if not reply:
            return None
        return socket.inet_ntoa(reply[_ADDRESS]), struct.unpack("!H", reply[_PORT])[0]

    def _ask(self, original: bytes) -> bytes | None:
        self._asking.send(message(GET, REQUEST, original))
        data = self._asking.recv(1 << 16)
        if struct.unpack_from("=H", data, 4)[0] == ERROR:
            return None
        return data[HEADER_BYTES + _TUPLE : HEADER_BYTES + 2 * _TUPLE]


class Lookup:
    """All nodes'; made when they are there; of no node where the mode does not translate: then no flow is known."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._nodes = {node: NodeFlows(node) for node in nodes}

    def find(self, flow: dict[str, Any], pods: dict[str, str]) -> dict[str, Any] | None:
        """`{"node", "endpoint", "pod"}` of a flow, None when no node knows it; `pods` is name by address.

        A flow is `protocol` (tcp, udp), `source`, `source_port`, `address`, `port`, and `node` where it is known.
        """
        original = tuple_of(flow)
        for node in {flow["node"]} & self._nodes.keys() if flow.get("node") else self._nodes:
            found = self._nodes[node].find(original)
            if found and found[0] != flow["address"]:
                return {"node": node, "endpoint": f"{found[0]}:{found[1]}", "pod": pods.get(found[0])}
        return None
