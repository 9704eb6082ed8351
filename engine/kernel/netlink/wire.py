"""Netlink's wire format: encoding and decoding of headers and attributes, without I/O (linux/netlink.h)."""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

from engine.kernel.netlink.errors import NetlinkError, Refusal

ROUTE, NETFILTER, GENERIC = 0, 12, 16
"""Protocols of AF_NETLINK sockets."""

REQUEST, ACK, ECHO, DUMP = 1, 4, 8, 0x300
EXCLUSIVE, CREATE, APPEND = 0x200, 0x400, 0x800
NESTED = 0x8000
ERROR, DONE = 2, 3
DUMP_INTERRUPTED = 0x10
HEADER_BYTES = 16
FAMILY_BYTES = 4
"""Size of the second header, of nfnetlink (struct nfgenmsg) or generic netlink (struct genlmsghdr)."""

FLAGS_AT, SEQUENCE_AT = 6, 8
"""Offsets in a header."""

_CAPPED, _ACK_TLVS = 0x100, 0x200
_ATTRIBUTE_MESSAGE, _ATTRIBUTE_OFFSET = 1, 2
_header = struct.Struct("=IHHII").pack
_header_and_family = struct.Struct("=IHHIIBBH").pack
_NO_HEADER = 0, 0, 0, 0
_read_header = struct.Struct("=IHHI").unpack_from
_attribute_header = struct.Struct("=HH")


class Message(NamedTuple):
    """One message from the kernel; `body` follows netlink's header."""

    kind: int
    flags: int
    sequence: int
    body: bytes


Span = tuple[int, int, int, int, int]
"""One message in a datagram: kind, flags, sequence, and its body from `start` to `end`."""


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A request; its number is set when it is sent."""
    return _header(HEADER_BYTES + len(body), kind, REQUEST | flags, 0, 0) + body


def nfnetlink(kind: int, flags: int, family: int, payload: bytes, resource: int = 0) -> bytes:
    """A request to netfilter for a protocol family; `kind` is subsystem << 8 | message."""
    return _header_and_family(20 + len(payload), kind, REQUEST | flags, 0, 0, family, 0, resource) + payload


def generic(family: int, command: int, payload: bytes, flags: int = 0, version: int = 1) -> bytes:
    """A request to the generic netlink family with this number."""
    return _header_and_family(20 + len(payload), family, REQUEST | flags, 0, 0, command, version, 0) + payload


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _attribute_header.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, payload: bytes) -> bytes:
    """A nested attribute."""
    return attribute(NESTED | kind, payload)


def text(kind: int, value: str) -> bytes:
    """A string attribute, with its terminating zero."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes) -> dict[int, bytes]:
    """{kind: payload} of a sequence of attributes; of duplicates the last is kept."""
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _attribute_header.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def spans(data: bytes) -> list[Span]:
    """Every message in a datagram; NetlinkError if it is truncated."""
    found: list[Span] = []
    offset, size = 0, len(data)
    while offset < size:
        length, kind, flags, sequence = _read_header(data, offset) if offset + HEADER_BYTES <= size else _NO_HEADER
        end = offset + length
        if length < HEADER_BYTES or end > size:
            raise _cut_off(length, size - offset)
        found.append((kind, flags, sequence, offset + HEADER_BYTES, end))
        offset = (end + 3) & ~3
    return found


def page(data: bytes, sequence: int) -> tuple[list[tuple[int, int]], int, Span | None]:
    """For a dump with this number: (start, end) of each body, the union of all flags, and the final message.

    A cheaper `spans`, for dumps of a hundred thousand bodies.
    """
    bodies: list[tuple[int, int]] = []
    seen, last = 0, None
    offset, size = 0, len(data)
    while offset < size:
        length, kind, flags, number = _read_header(data, offset) if offset + HEADER_BYTES <= size else _NO_HEADER
        end = offset + length
        if length < HEADER_BYTES or end > size:
            raise _cut_off(length, size - offset)
        if number == sequence:
            seen |= flags
            if kind > DONE:
                bodies.append((offset + HEADER_BYTES, end))
            else:
                last = kind, flags, number, offset + HEADER_BYTES, end
        offset = (end + 3) & ~3
    return bodies, seen, last


def _cut_off(announced: int, came: int) -> NetlinkError:
    return NetlinkError([Refusal(-1, errno.EBADMSG, text=f"truncated message: {came} of {announced} bytes")])


def messages(data: bytes) -> list[Message]:
    """Every message in a datagram, decoded."""
    return [Message(kind, flags, sequence, data[start:end]) for kind, flags, sequence, start, end in spans(data)]


def flags_of(request: bytes) -> int:
    """A request's flags."""
    found: int = struct.unpack_from("=H", request, FLAGS_AT)[0]
    return found


def flagged(request: bytes, flags: int) -> bytes:
    """The request with additional flags."""
    changed = bytearray(request)
    struct.pack_into("=H", changed, FLAGS_AT, flags_of(request) | flags)
    return bytes(changed)


def error_code(data: bytes, start: int, end: int) -> int:
    """The errno in the body of an ERROR or DONE message; 0 for an acknowledgement."""
    return -struct.unpack_from("=i", data, start)[0] if end >= start + 4 else 0


def refusal(data: bytes, span: Span, index: int, request: bytes) -> Refusal:
    """The error in an ERROR message, with the kernel's text and the offset of the offending attribute if given."""
    _, flags, _, start, end = span
    found: dict[int, bytes] = {}
    if flags & _ACK_TLVS and end >= start + 4 + HEADER_BYTES:
        # The code is followed by the rejected message's header, and unless capped by its body.
        refused = HEADER_BYTES if flags & _CAPPED else struct.unpack_from("=I", data, start + 4)[0]
        found = attributes(data[start + 4 + (refused + 3 & ~3) : end])
    words = found.get(_ATTRIBUTE_MESSAGE, b"").rstrip(b"\0").decode(errors="replace")
    offset = found.get(_ATTRIBUTE_OFFSET, b"")
    at = struct.unpack("=I", offset)[0] if len(offset) == 4 else 0
    return Refusal(index, error_code(data, start, end), request, words, at)
