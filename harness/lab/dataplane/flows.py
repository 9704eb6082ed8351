"""The endpoint of a flow: from notifications of each node's connection tracking, or by querying it.

The kernel removes the entry of a refused connection at once, so one thread per node receives ctnetlink's notifications
and keeps recent ones; for other flows the table can be queried.  Messages about IPv4 TCP and UDP begin with both
directions in a fixed layout, so a notification is stored as bytes: original direction -> reply.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterable

from engine.kernel.netlink import NETFILTER, Connection, ErrorKind, NetlinkError, Subscription, attributes
from harness.lab.answers import FlowEndpoint, FlowQuery
from harness.lab.dataplane import network
from harness.lab.dataplane.ctnetlink import DELETE, FAMILY_BYTES, GET, ORIGINAL, direction, message

_GROUP_NEW, _GROUP_DESTROY = 1, 3
_PROTOCOLS = {"tcp": 6, "udp": 17}
_TUPLE = 52
_TUPLES = slice(FAMILY_BYTES, FAMILY_BYTES + 2 * _TUPLE)
_ADDRESS, _PROTOCOL, _PORT = slice(12, 16), 32, slice(40, 42)
"""Positions of the source's address and port, and of the protocol, within a tuple."""
_PROTOINFO, _TCP, _STATE = 4, 1, 1
_ENDED = (7, 8)
"""The TCP states TIME_WAIT and CLOSE: in all others, connection tracking matches a SYN to the existing entry."""
KEPT_SECONDS = 10.0


def tuple_of(flow: FlowQuery) -> bytes:
    """The original direction of a flow, encoded as in the kernel's messages."""
    source, target = (flow.source, flow.source_port), (flow.address, flow.port)
    ends = [(socket.inet_aton(address), port) for address, port in (source, target)]
    return direction(ORIGINAL, _PROTOCOLS[flow.protocol], *ends)


class RecentFlows:
    """Flows with a notification in the last `KEPT_SECONDS` or longer."""

    def __init__(self) -> None:
        self._new: dict[bytes, list[tuple[bytes, int]]] = {}
        self._old: dict[bytes, list[tuple[bytes, int]]] = {}
        self._turned_ns = 0

    def add(self, original: bytes, reply: bytes, notified_ns: int) -> None:
        """Record a notification."""
        if notified_ns - self._turned_ns > KEPT_SECONDS * 1e9:
            self._old, self._new, self._turned_ns = self._new, {}, notified_ns
        self._new.setdefault(original, []).append((reply, notified_ns))

    def of(self, original: bytes) -> list[tuple[bytes, int]]:
        """The flow's reply directions, and the time of each notification."""
        return [*self._old.get(original, ()), *self._new.get(original, ())]


class NodeFlows:
    """Created and destroyed flows of one node."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._begun, self._removed = RecentFlows(), RecentFlows()
        self._asking = Connection(self._socket())
        self._notifications = Subscription(self._socket(), [_GROUP_NEW, _GROUP_DESTROY])
        threading.Thread(target=self._listen, name=f"flows-{node}", daemon=True).start()

    def _socket(self) -> socket.socket:
        with network.entered(self._node):
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)

    def _listen(self) -> None:
        while (notices := self._notifications.receive()) is not None:
            notified_ns = time.monotonic_ns()
            for notice in notices.messages:
                tuples = notice.body[_TUPLES]
                recent = self._removed if notice.kind == DELETE else self._begun
                recent.add(tuples[:_TUPLE], tuples[_TUPLE:], notified_ns)

    def find(self, original: bytes, since_ns: int | None, until_ns: int | None) -> tuple[str, int, bool] | None:
        """The flow's endpoint, and whether its entry is older than `since_ns`; None if the node has no such flow.

        A flow that began after `since_ns` is identified by the notification since then; without one, its packets may
        have been matched to the entry of an earlier flow from the same port (`_older`).  Any other flow is identified
        by the last notification before `until_ns`, as a new flow may have used the port after that.
        """
        notices = self._begun.of(original)
        if since_ns is not None:
            replies = [reply for reply, notified_ns in notices if notified_ns >= since_ns]
            reply = replies[-1] if replies else self._older(original, since_ns)
        else:
            by_then = [reply for reply, notified_ns in notices if until_ns is None or notified_ns <= until_ns]
            replies = by_then or [reply for reply, _ in notices[:1]]
            reply = replies[-1] if replies else self._ask(original)[:_TUPLE]
        if not reply:
            return None
        older = since_ns is not None and not replies
        return socket.inet_ntoa(reply[_ADDRESS]), struct.unpack("!H", reply[_PORT])[0], older

    def _older(self, original: bytes, since_ns: int) -> bytes:
        """The reply's tuple of the entry that a first packet at `since_ns` was matched to; empty if there was none.

        For TCP an entry whose connection has not ended; for UDP any, even if a proxy has removed it since as stale.
        """
        found = self._ask(original)
        tcp = attributes(attributes(found[_TUPLE:]).get(_PROTOINFO, b"")).get(_TCP, b"")
        state = attributes(tcp).get(_STATE, b"")
        if found or original[_PROTOCOL] != _PROTOCOLS["udp"]:
            return b"" if state and state[0] in _ENDED else found[:_TUPLE]
        return next((reply for reply, notified_ns in self._removed.of(original) if notified_ns >= since_ns), b"")

    def _ask(self, original: bytes) -> bytes:
        """The kernel's entry, starting at the reply's tuple; empty if it has none."""
        try:
            return self._asking.ask(message(GET, 0, original))[_TUPLES.start + _TUPLE :]
        except NetlinkError as error:
            if error.kind is ErrorKind.NOT_THERE:
                return b""
            raise


class Lookup:
    """The flows of all nodes; to be created once the nodes exist.  Without nodes, no flow is known."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._nodes = {node: NodeFlows(node) for node in nodes}

    def find(self, flow: FlowQuery, pods: dict[str, str]) -> FlowEndpoint | None:
        """The endpoint of a flow, None if no node knows it; `pods` are the pods' names by address."""
        original = tuple_of(flow)
        for node in {flow.node} & self._nodes.keys() if flow.node else self._nodes:
            found = self._nodes[node].find(original, flow.since_ns, flow.until_ns)
            if found and found[0] != flow.address:
                return FlowEndpoint(node, f"{found[0]}:{found[1]}", pods.get(found[0]), found[2])
        return None
