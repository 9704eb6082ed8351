"""Netlink requests, many in one send: one system call and one acknowledgement for thousands.

The kernel answers a message without the acknowledgement flag only when it refuses it, so reading up
to the last one's acknowledgement shows every refusal.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

REQUEST, ACK, DUMP = 1, 4, 0x300

_BATCH_BYTES = 1 << 18
_BUFFER_BYTES = 1 << 22
_NETLINK, _CAP_ACK = 270, 10
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_DUMPS_AT_MOST = 10


class Refusal(NamedTuple):
    """Which message of a sequence was refused, and with what errno."""

    index: int
    code: int

    def __str__(self) -> str:
        return f"{os.strerror(self.code)} ({errno.errorcode.get(self.code, self.code)})"


class Pipeline:
    """One AF_NETLINK socket for requests and dumps; not for several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setsockopt(_NETLINK, _CAP_ACK, 1)  # refusals come back without the message they refuse
        for forced, plain in ((_SNDBUFFORCE, socket.SO_SNDBUF), (_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, plain, _BUFFER_BYTES)
        # The kernel counts a message with its own overhead, about as much again.
        self._batch_bytes = min(_BATCH_BYTES, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4)

    def send(self, messages: Sequence[bytes]) -> Refusal | None:
        """All of them in order, batch by batch; the first refusal ends it after its batch."""
        return next(self.refusals(messages), None)

    def refusals(self, messages: Sequence[bytes]) -> Iterator[Refusal]:
        """All of them in order, batch by batch, each refused one as it is found; to be read to its end."""
        start = 0
        while start < len(messages):
            end, size = start, 0
            while end < len(messages) and (not size or size + len(messages[end]) <= self._batch_bytes):
                size += len(messages[end])
                end += 1
            batch = bytearray(b"".join(messages[start:end]))
            yield from [Refusal(start + refused.index, refused.code) for refused in self._exchange(batch)]
            start = end

    def _exchange(self, batch: bytearray) -> list[Refusal]:
        """Number the messages of one batch, send it, and read to the last one's acknowledgement."""
        offset = count = last = 0
        while offset < len(batch):
            struct.pack_into("=I", batch, offset + 8, count)
            last = offset
            offset += struct.unpack_from("=I", batch, offset)[0]
            count += 1
        flags = struct.unpack_from("=H", batch, last + 6)[0]
        struct.pack_into("=H", batch, last + 6, flags | ACK)
        self._sock.send(batch)
        found = []
        for kind, _, sequence, body in self._answers():
            code = -struct.unpack_from("=i", body)[0] if kind == _ERROR else 0
            if code:
                found.append(Refusal(sequence, code))
            if kind == _ERROR and sequence == count - 1:
                return found
        raise AssertionError("unreachable: answers end with the last acknowledgement")

    def request(self, message: bytes) -> bytes | Refusal:
        """The body of the one answer to a request that asks for data."""
        self._sock.send(message)
        for kind, _, _, body in self._answers():
            return Refusal(0, -struct.unpack_from("=i", body)[0]) if kind == _ERROR else body
        raise AssertionError("unreachable: there is always an answer")

    def dump(self, message: bytes) -> list[bytes] | Refusal:
        """Bodies of all answers, read again while the kernel says that they changed meanwhile."""
        request = bytearray(message)
        struct.pack_into("=H", request, 6, REQUEST | DUMP)
        for _ in range(_DUMPS_AT_MOST):
            found = self._dump_once(request)
            if found is not None:
                return found
        return Refusal(0, errno.EAGAIN)

    def _dump_once(self, request: bytes) -> list[bytes] | Refusal | None:
        self._sock.send(request)
        bodies: list[bytes] = []
        interrupted = False
        for kind, flags, _, body in self._answers():
            interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
            code = -struct.unpack_from("=i", body)[0] if kind in (_ERROR, _DONE) and len(body) >= 4 else 0
            if code:
                return Refusal(0, code)
            if kind in (_ERROR, _DONE):
                break
            bodies.append(body)
        return None if interrupted else bodies

    def _answers(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, sequence, body) for ever; the reader knows the last one."""
        while True:
            data = self._sock.recv(1 << 20)
            offset = 0
            while offset + 16 <= len(data):
                length, kind, flags, sequence = struct.unpack_from("=IHHI", data, offset)
                yield kind, flags, sequence, data[offset + 16 : offset + length]
                offset += (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """{kind: payload} of a run of attributes; a kind that comes twice keeps its last."""
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found
