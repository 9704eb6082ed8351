"""The kernel's table of connections, by netlink in the namespace of the socket it is given (ctnetlink).

One dump of a family's UDP flows, one pipelined batch that deletes what is stale.  Wire format:
linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import NamedTuple

from engine.conntrack import Stale
from engine.kernel.base import KernelError
from engine.kernel.pipeline import DUMP, REQUEST, Pipeline, attribute, attributes
from engine.model import ADDRESS_BYTES, UDP

NETLINK_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102
_TUPLE_ORIG, _ID, _ZONE, _FILTER = 1, 12, 18, 25
_NESTED = 0x8000
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_DUMPS_AT_MOST = 5
_MESSAGE_BYTES = 20
"""Before the attributes: nlmsghdr and nfgenmsg."""
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_header = struct.Struct("=IHH").unpack_from
_PROTOCOL_ONLY = 1 << 3  # CTA_FILTER_F_CTA_PROTO_NUM


class _Layout(NamedTuple):
    """How the kernel lays out the two tuples of a flow whose protocol has ports, and how long each is."""

    flow: struct.Struct
    bytes: int


def _layout(address_bytes: int) -> _Layout:
    """Tuple length and kind; original destination, protocol, port; the reply's length, kind, source, port.

    Reading at fixed places saves walking the attributes of every flow; a tuple of another length (ICMP, a
    zone of one direction) is none of ours.
    """
    n = address_bytes
    return _Layout(struct.Struct(f"=HH{12 + n}x{n}s8xB15x2s2xHH8x{n}s{20 + n}x2s"), 44 + 2 * n)


_LAYOUTS = {family: _layout(size) for family, size in ADDRESS_BYTES.items()}


class ConntrackTable:
    """Deletes stale flows; one netlink socket, not for several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pipeline = Pipeline(sock)

    def close(self) -> None:
        """Give the socket back."""
        self._sock.close()

    def remove(self, family: int, stale: Stale) -> int:
        """Delete the family's UDP flows that are stale; how many. KernelError when the kernel refuses.

        A dump that the kernel calls interrupted may have missed some: what it showed is deleted all the
        same, each flow being judged by itself, and the table is read again, a bounded number of times (CT-05).
        """
        removed = 0
        try:
            for _ in range(_DUMPS_AT_MOST):
                found, whole = self._find(family, stale)
                removed += self._delete(found)
                if whole:
                    break
        except OSError as error:
            raise KernelError(f"conntrack could not be read: {error}") from error
        return removed

    def _find(self, family: int, stale: Stale) -> tuple[list[bytes], bool]:
        """Requests that delete the stale ones; whether the dump was a whole one."""
        self._sock.send(_dump_request(family))
        found: list[bytes] = []
        whole = True
        while True:
            data = self._sock.recv(1 << 17)
            offset = 0
            while offset < len(data):
                length, kind, flags = _header(data, offset)
                whole = whole and not flags & _DUMP_INTERRUPTED
                if kind == _ERROR or kind == _DONE:
                    code = -struct.unpack_from("=i", data, offset + 16)[0] if length >= 20 else 0
                    if code and code != errno.EINTR:
                        raise OSError(code, os.strerror(code))
                    return found, whole and not code
                if _judged(data, offset, length, family, stale):
                    found.append(_delete_request(family, data[offset + _MESSAGE_BYTES : offset + length]))
                offset += (length + 3) & ~3

    def _delete(self, requests: list[bytes]) -> int:
        """How many were still there."""
        refused = list(self._pipeline.refusals(requests))
        for refusal in refused:
            if refusal.code != errno.ENOENT:
                raise KernelError(f"conntrack refused to delete a flow: {refusal}")
        return len(requests) - len(refused)


def _judged(data: bytes, offset: int, length: int, family: int, stale: Stale) -> bool:
    layout = _LAYOUTS[family]
    if length < _MESSAGE_BYTES + 2 * layout.bytes:
        return False
    bytes_, _, address, protocol, port, reply_bytes, _, source, source_port = layout.flow.unpack_from(
        data, offset + _MESSAGE_BYTES
    )
    if protocol != UDP or bytes_ != layout.bytes or reply_bytes != layout.bytes:
        return False
    return stale(address + port, source + source_port)


def _message(family: int, kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack("=IHHIIBBH", _MESSAGE_BYTES + len(payload), kind, flags, 0, 0, _AF[family], 0, 0) + payload


def _dump_request(family: int) -> bytes:
    """All flows of UDP; a kernel before 5.8 knows no such filter and shows every flow of the family."""
    protocol = attribute(_NESTED | 2, attribute(1, bytes([UDP])))
    wanted = attribute(1, struct.pack("=I", _PROTOCOL_ONLY)) + attribute(2, struct.pack("=I", 0))
    payload = attribute(_NESTED | _TUPLE_ORIG, protocol) + attribute(_NESTED | _FILTER, wanted)
    return _message(family, _GET, REQUEST | DUMP, payload)


def _delete_request(family: int, flow: bytes) -> bytes:
    """Deletes this very flow: by its number too, so that not a new one in the same place is hit."""
    found = attributes(flow)
    payload = attribute(_NESTED | _TUPLE_ORIG, found[_TUPLE_ORIG])
    payload += b"".join(attribute(kind, found[kind]) for kind in (_ID, _ZONE) if kind in found)
    return _message(family, _DELETE, REQUEST, payload)
