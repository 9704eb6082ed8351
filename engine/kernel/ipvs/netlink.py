"""Encoding of netlink messages for IP_VS; no I/O.

Wire format: linux/ip_vs.h (generic netlink family IPVS).
"""

from __future__ import annotations

import struct

from engine.backends.ipvs.program import ServerKey, VirtualServer
from engine.kernel.netlink import attribute, generic, nested, text
from engine.model import PROTOCOLS, Target

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
SERVICE, DEST = 1, 2
AF = {7: 2, 19: 10}
"""Address family by the length of a server's key."""

_SET_CONFIG = 12


def _u32(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


_SERVER_HEADS = {
    (size, protocol): struct.pack("=HHHHHHHHHH", 6, 1, family, 0, 6, 2, protocol, 0, 20, 3)
    for size, family in AF.items()
    for protocol in PROTOCOLS.values()
}
_PORT_OF_SERVER = struct.pack("=HH", 6, 4)
_ADDRESS_OF_DEST = struct.pack("=HH", 20, 1)
_PORT_OF_DEST = struct.pack("=HH", 6, 2)
_FORWARD = _u32(3, 0)  # masquerading, the only method in which pods see their own address as destination
_THRESHOLDS = _u32(5, 0) + _u32(6, 0)


def identity(key: ServerKey) -> bytes:
    """The attributes that identify a virtual server."""
    address = key[:-3].ljust(16, b"\0")
    return _SERVER_HEADS[len(key), key[-3]] + address + _PORT_OF_SERVER + key[-2:] + b"\0\0"


def service(key: ServerKey, server: VirtualServer | None = None) -> bytes:
    """The SERVICE attribute: complete for a new or changed server, otherwise only the identity."""
    inner = identity(key)
    if server:
        netmask = 0xFFFFFFFF if len(key) == 7 else 128
        inner += text(6, server.scheduler)
        inner += attribute(7, struct.pack("=II", server.flags, 0xFFFFFFFF))
        inner += _u32(8, server.timeout_seconds) + _u32(9, netmask)
    return nested(SERVICE, inner)


def destination(target: Target, weight: int | None = None) -> bytes:
    """The DEST attribute; without a weight only the identity."""
    inner = _ADDRESS_OF_DEST + target[:-2].ljust(16, b"\0") + _PORT_OF_DEST + target[-2:] + b"\0\0"
    if weight is not None:
        inner += _FORWARD + _u32(4, weight) + _THRESHOLDS
    return nested(DEST, inner)


def timeouts(family: int, seconds: tuple[int, int, int]) -> bytes:
    """Set the timeouts of TCP, TCP after FIN and UDP; those of 0 are not changed."""
    payload = b"".join(_u32(kind, value) for kind, value in zip((4, 5, 6), seconds, strict=True) if value)
    return generic(family, _SET_CONFIG, payload)
