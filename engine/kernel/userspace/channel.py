"""Messages between the kernel's front and the proxy process: four bytes of length, one of kind, then JSON."""

from __future__ import annotations

import struct

APPLY, EVERYTHING, FINE, REFUSED = b"A", b"E", b"F", b"R"
"""Requests: apply this program; say all that you hold of a family.  Answers: done, and the reason why not."""

HEADER_BYTES = 5


def frame(kind: bytes, body: bytes) -> bytes:
    """One message."""
    return struct.pack("=I", len(body)) + kind + body


def unframe(header: bytes) -> tuple[bytes, int]:
    """Kind, and the number of bytes that follow."""
    return header[4:5], struct.unpack("=I", header[:4])[0]
