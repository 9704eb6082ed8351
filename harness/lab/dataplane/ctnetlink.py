"""The ctnetlink messages that the lab sends (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import socket
import struct

from engine.kernel.netlink import attribute, nested, nfnetlink

NEW, GET, DELETE = 1 << 8, 1 << 8 | 1, 1 << 8 | 2
ORIGINAL, REPLY = 1, 2
FAMILY_BYTES = 4
"""Size of nfnetlink's header, which attributes follow."""


def message(kind: int, flags: int, attributes: bytes) -> bytes:
    """A request about IPv4."""
    return nfnetlink(kind, flags, socket.AF_INET, attributes)


def direction(kind: int, protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    """One direction of a flow, ORIGINAL or REPLY; ends are (packed address, port)."""
    addresses = attribute(1, source[0]) + attribute(2, destination[0])
    ports = attribute(2, struct.pack("!H", source[1])) + attribute(3, struct.pack("!H", destination[1]))
    return nested(kind, nested(1, addresses) + nested(2, attribute(1, bytes([protocol])) + ports))
