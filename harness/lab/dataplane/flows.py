"""The endpoint of a flow: from notifications of each node's connection tracking, or by querying it.

A refused connection is forgotten by the kernel at once, so one thread per node listens to ctnetlink's announcements and
keeps those of the last while; a flow that lives on can still be asked for.  Messages of IPv4 TCP and UDP begin with
both directions in a fixed layout, so an announcement is kept as the bytes it is: original direction -> reply.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterable

from engine.kernel.netlink import NETFILTER, Connection, Kind, NetlinkError, Subscription, attributes
from harness.lab.answers import FlowEndpoint, FlowQuery
from harness.lab.dataplane import network
from harness.lab.dataplane.ctnetlink import DELETE, FAMILY_BYTES, GET, ORIGINAL, direction, message

_GROUP_NEW, _GROUP_DESTROY = 1, 3
_PROTOCOLS = {"tcp": 6, "udp": 17}
_TUPLE = 52
_TUPLES = slice(FAMILY_BYTES, FAMILY_BYTES + 2 * _TUPLE)
_ADDRESS, _PROTOCOL, _PORT = slice(12, 16), 32, slice(40, 42)
"""Of the source, within a tuple."""
_PROTOINFO, _TCP, _STATE = 4, 1, 1
_ENDED = (7, 8)
"""States of TCP, TIME_WAIT and CLOSE: in all others connection tracking takes a SYN for the same connection's."""
KEPT_SECONDS = 10.0


def tuple_of(flow: FlowQuery) -> bytes:
    """The original direction of a flow, as the kernel writes it."""
    source, target = (flow.source, flow.source_port), (flow.address, flow.port)
    ends = [(socket.inet_aton(address), port) for address, port in (source, target)]
    return direction(ORIGINAL, _PROTOCOLS[flow.protocol], *ends)


class Announced:
    """Flows announced in the last `KEPT_SECONDS` or longer."""

    def __init__(self) -> None:
        self._new: dict[bytes, list[tuple[bytes, int]]] = {}
        self._old: dict[bytes, list[tuple[bytes, int]]] = {}
        self._turned_ns = 0

    def add(self, original: bytes, reply: bytes, heard_ns: int) -> None:
        """Record a notification."""
        if heard_ns - self._turned_ns > KEPT_SECONDS * 1e9:
            self._old, self._new, self._turned_ns = self._new, {}, heard_ns
        self._new.setdefault(original, []).append((reply, heard_ns))

    def of(self, original: bytes) -> list[tuple[bytes, int]]:
        """The flow's reply directions, and when each was announced."""
        return [*self._old.get(original, ()), *self._new.get(original, ())]


class NodeFlows:
    """One node's flows: created and destroyed ones."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._begun, self._removed = Announced(), Announced()
        self._asking = Connection(self._socket())
        self._listening = Subscription(self._socket(), [_GROUP_NEW, _GROUP_DESTROY])
        threading.Thread(target=self._listen, name=f"flows-{node}", daemon=True).start()

    def _socket(self) -> socket.socket:
        with network.entered(self._node):
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)

    def _listen(self) -> None:
        while (notices := self._listening.receive()) is not None:
            heard_ns = time.monotonic_ns()
            for notice in notices.messages:
                tuples = notice.body[_TUPLES]
                announced = self._removed if notice.kind == DELETE else self._begun
                announced.add(tuples[:_TUPLE], tuples[_TUPLE:], heard_ns)

    def find(self, original: bytes, since_ns: int | None, until_ns: int | None) -> tuple[str, int, bool] | None:
        """Address and port that answer the flow, and whether it is older than asked; None when the node has none.

        Of a flow that began after `since_ns` what was announced since.  Without that its packets may have been taken
        for those of an older one from the same port (`_older`).
        Of one without a beginning what was announced last `until_ns`: it may have begun again.
        """
        heard = self._begun.of(original)
        if since_ns is not None:
            replies = [reply for reply, heard_ns in heard if heard_ns >= since_ns]
            reply = replies[-1] if replies else self._older(original, since_ns)
        else:
            by_then = [reply for reply, heard_ns in heard if until_ns is None or heard_ns <= until_ns]
            replies = by_then or [reply for reply, _ in heard[:1]]
            reply = replies[-1] if replies else self._ask(original)[:_TUPLE]
        if not reply:
            return None
        older = since_ns is not None and not replies
        return socket.inet_ntoa(reply[_ADDRESS]), struct.unpack("!H", reply[_PORT])[0], older

    def _older(self, original: bytes, since_ns: int) -> bytes:
        """The reply's tuple of a flow that was in the kernel's table at `since_ns`, and a first packet belonged to.

        That is one of TCP that has not ended, and any of UDP, which a proxy may have removed since: it was stale.
        """
        found = self._ask(original)
        tcp = attributes(attributes(found[_TUPLE:]).get(_PROTOINFO, b"")).get(_TCP, b"")
        state = attributes(tcp).get(_STATE, b"")
        if found or original[_PROTOCOL] != _PROTOCOLS["udp"]:
            return b"" if state and state[0] in _ENDED else found[:_TUPLE]
        return next((reply for reply, heard_ns in self._removed.of(original) if heard_ns >= since_ns), b"")

    def _ask(self, original: bytes) -> bytes:
        """The kernel's entry from the reply's tuple on; empty when it has none."""
        try:
            return self._asking.ask(message(GET, 0, original))[_TUPLES.start + _TUPLE :]
        except NetlinkError as error:
            if error.kind is Kind.NOT_THERE:
                return b""
            raise


class Lookup:
    """All nodes'; made when they are there; of no node where the mode does not translate: then no flow is known."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._nodes = {node: NodeFlows(node) for node in nodes}

    def find(self, flow: FlowQuery, pods: dict[str, str]) -> FlowEndpoint | None:
        """The endpoint of a flow, None when no node knows it; `pods` is name by address."""
        original = tuple_of(flow)
        for node in {flow.node} & self._nodes.keys() if flow.node else self._nodes:
            found = self._nodes[node].find(original, flow.since_ns, flow.until_ns)
            if found and found[0] != flow.address:
                return FlowEndpoint(node, f"{found[0]}:{found[1]}", pods.get(found[0]), found[2])
        return None
