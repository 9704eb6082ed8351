"""IP_VS commands and addresses of a device as netlink messages: pure encoding, nothing is sent here.

Wire format: linux/ip_vs.h (generic netlink family IPVS) and linux/rtnetlink.h.  Messages carry no
acknowledgement flag, so that thousands travel in one send (`engine.kernel.pipeline`).
"""

from __future__ import annotations

import struct

from engine.backends.ipvs.program import ServerKey, VirtualServer
from engine.kernel.pipeline import REQUEST, attribute
from engine.model import Address, Target

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
SERVICE, DEST = 1, 2
AF = {7: 2, 19: 10}
"""Address family by the bytes of a server's key."""

_GENL_CONTROL, _GETFAMILY = 0x10, 3
_SET_CONFIG = 12
_NEWLINK, _NEWADDR, _DELADDR, _GETROUTE = 16, 20, 21, 26
_LOCAL = 2
_CREATE, _EXCLUSIVE = 0x400, 0x200
_NESTED = 0x8000
_NO_DUPLICATE_DETECTION = 0x02
_header = struct.Struct("=IHHIIBBH").pack
_HEADER_BYTES = 20


def message(family: int, command: int, payload: bytes, flags: int = REQUEST) -> bytes:
    """A generic netlink message to the family of that number."""
    return _header(_HEADER_BYTES + len(payload), family, flags, 0, 0, command, 1, 0) + payload


def family_request(name: str) -> bytes:
    """Asks for a family's number; the kernel loads the module that it needs for that."""
    return message(_GENL_CONTROL, _GETFAMILY, attribute(2, name.encode() + b"\0"))


def _u32(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


_SERVER_HEADS = {
    (size, protocol): struct.pack("=HHHHHHHHHH", 6, 1, family, 0, 6, 2, protocol, 0, 20, 3)
    for size, family in AF.items()
    for protocol in (6, 17, 132)
}
_PORT_OF_SERVER = struct.pack("=HH", 6, 4)
_ADDRESS_OF_DEST = struct.pack("=HH", 20, 1)
_PORT_OF_DEST = struct.pack("=HH", 6, 2)
_FORWARD = _u32(3, 0)  # masquerading, the only way that pods see their own address as destination
_THRESHOLDS = _u32(5, 0) + _u32(6, 0)


def identity(key: ServerKey) -> bytes:
    """The attributes by which IP_VS finds a virtual server."""
    address = key[:-3].ljust(16, b"\0")
    return _SERVER_HEADS[len(key), key[-3]] + address + _PORT_OF_SERVER + key[-2:] + b"\0\0"


def service(key: ServerKey, server: VirtualServer | None = None) -> bytes:
    """The SERVICE attribute: all of it for a new or changed server, its identity to name one."""
    inner = identity(key)
    if server:
        netmask = 0xFFFFFFFF if len(key) == 7 else 128
        inner += attribute(6, server.scheduler.encode() + b"\0")
        inner += attribute(7, struct.pack("=II", server.flags, 0xFFFFFFFF))
        inner += _u32(8, server.timeout_seconds) + _u32(9, netmask)
    return attribute(_NESTED | SERVICE, inner)


def destination(target: Target, weight: int | None = None) -> bytes:
    """The DEST attribute; without weight only what names it."""
    inner = _ADDRESS_OF_DEST + target[:-2].ljust(16, b"\0") + _PORT_OF_DEST + target[-2:] + b"\0\0"
    if weight is not None:
        inner += _FORWARD + _u32(4, weight) + _THRESHOLDS
    return attribute(_NESTED | DEST, inner)


def timeouts(family: int, seconds: tuple[int, int, int]) -> bytes:
    """Sets those of TCP, TCP after FIN and UDP that are above 0."""
    payload = b"".join(_u32(kind, value) for kind, value in zip((4, 5, 6), seconds, strict=True) if value)
    return message(family, _SET_CONFIG, payload)


def _route_message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 0, 0) + body


def new_device(name: str) -> bytes:
    """A dummy device; nobody brings it up."""
    info = attribute(_NESTED | 18, attribute(1, b"dummy"))
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attribute(3, name.encode() + b"\0") + info
    return _route_message(_NEWLINK, _CREATE | _EXCLUSIVE, body)


def new_address(index: int, address: Address) -> bytes:
    """One address, the whole of it as prefix, on the device with that index."""
    return _route_message(_NEWADDR, _CREATE | _EXCLUSIVE, _address(index, address))


def delete_address(index: int, address: Address) -> bytes:
    """Takes it off again."""
    return _route_message(_DELADDR, 0, _address(index, address))


def route_to(address: Address) -> bytes:
    """Asks by what route a packet to that address would go."""
    body = struct.pack("=BBBBBBBBI", AF[len(address) + 3], 8 * len(address), 0, 0, 0, 0, 0, 0, 0)
    return _route_message(_GETROUTE, 0, body + attribute(1, address))


def is_local(route: bytes) -> bool:
    """Whether the answer to `route_to` says that the packet is for this machine itself."""
    return route[7] == _LOCAL


def _address(index: int, address: Address) -> bytes:
    family, flags = (2, 0) if len(address) == 4 else (10, _NO_DUPLICATE_DETECTION)
    body = struct.pack("=BBBBI", family, 8 * len(address), flags, 0, index)
    return body + attribute(2, address) + attribute(1, address)
