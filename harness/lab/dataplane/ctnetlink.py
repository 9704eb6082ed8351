"""ctnetlink's messages, as far as the lab sends them (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import socket
import struct

NETLINK_NETFILTER = 12
NEW, GET, DELETE = 1 << 8, 1 << 8 | 1, 1 << 8 | 2
REQUEST, ACK, EXCLUSIVE, CREATE = 1, 4, 0x200, 0x400
ERROR = 2
ORIGINAL, REPLY = 1, 2
HEADER_BYTES = 20
"""Of netlink's and nfnetlink's headers together: attributes begin there."""


def message(kind: int, flags: int, attributes: bytes) -> bytes:
    """A request about IPv4."""
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def direction(kind: int, protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    """One direction of a flow, ORIGINAL or REPLY; ends are (packed address, port)."""
    addresses = attribute(1, source[0]) + attribute(2, destination[0])
    ports = attribute(2, struct.pack("!H", source[1])) + attribute(3, struct.pack("!H", destination[1]))
    return _nested(kind, _nested(1, addresses) + _nested(2, attribute(1, bytes([protocol])) + ports))


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _nested(kind: int, payload: bytes) -> bytes:
    return attribute(kind | 0x8000, payload)
