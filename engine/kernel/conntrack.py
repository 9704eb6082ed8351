"""The kernel's conntrack table, by ctnetlink in the namespace of the given socket.

One dump of a family's UDP flows, then one pipelined batch that deletes the stale ones.  Wire format:
linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from engine.conntrack import Stale
from engine.kernel.netlink import Connection, Dump, ErrorKind, NetlinkError, attribute, attributes, nested, nfnetlink
from engine.model import ADDRESS_BYTES, UDP

_GET, _DELETE = 0x101, 0x102
_TUPLE_ORIG, _ID, _ZONE, _FILTER = 1, 12, 18, 25
_DUMPS_AT_MOST = 5
_FAMILY_BYTES = 4
"""Size of struct nfgenmsg, before the attributes."""
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOL_ONLY = 1 << 3  # CTA_FILTER_F_CTA_PROTO_NUM


class _Layout(NamedTuple):
    """Layout of the two tuples of a flow whose protocol has ports, and the length of each."""

    flow: struct.Struct
    bytes: int


def _layout(address_bytes: int) -> _Layout:
    """Tuple length and kind; original destination, protocol, port; the reply's length, kind, source, port.

    Reading at fixed offsets avoids walking the attributes of every flow; tuples of other lengths (ICMP, a zone of one
    direction) are not relevant.
    """
    n = address_bytes
    return _Layout(struct.Struct(f"=HH{12 + n}x{n}s8xB15x2s2xHH8x{n}s{20 + n}x2s"), 44 + 2 * n)


_LAYOUTS = {family: _layout(size) for family, size in ADDRESS_BYTES.items()}


class ConntrackTable:
    """Deletes stale flows; uses one netlink socket, not thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        self._connection = Connection(sock)

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()

    def remove(self, family: int, stale: Stale) -> int:
        """Delete the stale UDP flows of the family and return their number; KernelError on failure.

        An interrupted dump may have missed flows: those it contained are deleted nevertheless, since each flow is
        checked separately, and the table is read again, a bounded number of times (CT-05).
        """
        removed = 0
        try:
            for _ in range(_DUMPS_AT_MOST):
                found, whole = self._find(family, stale)
                removed += self._delete(found)
                if whole:
                    break
        except NetlinkError as error:
            raise error.about("cannot read or change conntrack") from None
        return removed

    def _find(self, family: int, stale: Stale) -> tuple[list[bytes], bool]:
        """Requests to delete the stale flows, and whether the dump was complete."""
        dump = Dump(self._connection, _dump_request(family))
        found = [
            _delete_request(family, data[start + _FAMILY_BYTES : end])
            for data, flows in dump
            for start, end in flows
            if _judged(data, start + _FAMILY_BYTES, end, family, stale)
        ]
        return found, dump.whole

    def _delete(self, requests: list[bytes]) -> int:
        """Delete the flows and return how many still existed."""
        refused = self._connection.perform(requests)
        if others := [refusal for refusal in refused if refusal.kind is not ErrorKind.NOT_THERE]:
            raise NetlinkError(others)
        return len(requests) - len(refused)


def _judged(data: bytes, start: int, end: int, family: int, stale: Stale) -> bool:
    layout = _LAYOUTS[family]
    if end < start + 2 * layout.bytes:
        return False
    bytes_, _, address, protocol, port, reply_bytes, _, source, source_port = layout.flow.unpack_from(data, start)
    if protocol != UDP or bytes_ != layout.bytes or reply_bytes != layout.bytes:
        return False
    return stale(address + port, source + source_port)


def _dump_request(family: int) -> bytes:
    """Dump all UDP flows; kernels before 5.8 ignore the filter and return every flow of the family."""
    protocol = nested(2, attribute(1, bytes([UDP])))
    wanted = attribute(1, struct.pack("=I", _PROTOCOL_ONLY)) + attribute(2, struct.pack("=I", 0))
    payload = nested(_TUPLE_ORIG, protocol) + nested(_FILTER, wanted)
    return nfnetlink(_GET, 0, _AF[family], payload)


def _delete_request(family: int, flow: bytes) -> bytes:
    """Delete exactly this flow: with its id, so that a new flow with the same tuple is not deleted."""
    found = attributes(flow)
    payload = nested(_TUPLE_ORIG, found[_TUPLE_ORIG])
    payload += b"".join(attribute(kind, found[kind]) for kind in (_ID, _ZONE) if kind in found)
    return nfnetlink(_DELETE, 0, _AF[family], payload)
