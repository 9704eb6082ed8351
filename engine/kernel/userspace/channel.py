"""Messages between `UserspaceKernel` and the proxy process: length, number, one byte for the kind, then JSON.

A reply has the number of its request, so that a late reply is not mistaken for that of another request.
"""

from __future__ import annotations

import struct

APPLY, EVERYTHING, FINE, REFUSED = b"A", b"E", b"F", b"R"
"""Requests: apply a program; return the state of a family.  Replies: success; failure with its reason."""

_HEADER = struct.Struct("=IIc")
HEADER_BYTES = _HEADER.size


def frame(number: int, kind: bytes, body: bytes) -> bytes:
    """One message."""
    return _HEADER.pack(len(body), number, kind) + body


def unframe(header: bytes) -> tuple[int, bytes, int]:
    """Number, kind, and the number of bytes that follow."""
    size, number, kind = _HEADER.unpack(header)
    return number, kind, size
