"""Elements of nf_tables sets, and whether a table exists, read from the kernel by netlink."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from itertools import count

_GETTABLE, _GETSETELEM = 0x0A01, 0x0A0D
_REQUEST, _REQUEST_DUMP = 0x001, 0x301
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_PROTOCOL = {4: 2, 6: 10}
_RETRIES = 10
_ANSWER_SECONDS = 60
_numbers = count(1)
_ELEMENTS, _KEY, _DATA, _KEY_END = 3, 1, 2, 10


class KernelReadError(RuntimeError):
    """The kernel refused to dump a set."""


class NoSuchSet(KernelReadError):
    """The kernel has no such table or set."""


Verbs = dict[tuple[str, bytes], str]
"""The verdicts of elements of verdict maps, by (map, key): goto, jump, or the verdict's number."""


def dump(sock: socket.socket, family: int, set_name: str, verbs: Verbs | None = None) -> dict[bytes, bytes]:
    """{key: data} in raw register bytes; for ranges the key is the first address followed by the last.

    For a verdict, data is the chain's name; goto or jump goes into `verbs`.
    """
    for _ in range(_RETRIES):
        elements = _dump_once(sock, family, set_name)
        if elements is not None:
            if verbs is not None:
                verbs |= {(set_name, key): verb for key, verb in verbs_of(elements).items()}
            return {key: data for key, (data, _) in elements.items()}
    raise KernelReadError(f"set {set_name} kept changing while it was read")


def has_table(sock: socket.socket, family: int, table: str) -> bool:
    """Whether the kernel has the table; KernelReadError if it cannot be determined."""
    asked = next(_numbers)
    _send(sock, _GETTABLE, _REQUEST, asked, family, _attribute(1, table.encode() + b"\0"))
    while True:
        data = _received(sock, f"table {table}")
        kind, _, number = struct.unpack_from("=HHI", data, 4)
        if number != asked:
            continue
        code = struct.unpack_from("=i", data, 16)[0] if kind == _ERROR else 0
        if code not in (0, -errno.ENOENT):
            raise KernelReadError(f"table {table}: error {-code}")
        return code == 0


def verbs_of(elements: Elements) -> dict[bytes, str]:
    """The verdicts among elements, by key: goto, jump, or the verdict's number."""
    return {key: _VERBS.get(code, str(code)) for key, (_, code) in elements.items() if code is not None}


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _send(sock: socket.socket, kind: int, flags: int, number: int, family: int, attributes: bytes) -> None:
    body = struct.pack("=BBH", _PROTOCOL[family], 0, 0) + attributes
    sock.settimeout(_ANSWER_SECONDS)
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, flags, number, 0) + body)


def _received(sock: socket.socket, asked: str) -> bytes:
    try:
        return sock.recv(1 << 20)
    except OSError as error:
        raise KernelReadError(f"{asked}: {error.strerror or error}") from None


def _dump_once(sock: socket.socket, family: int, set_name: str) -> Elements | None:
    asked = next(_numbers)
    wanted = _attribute(1, b"kube-proxy\0") + _attribute(2, set_name.encode() + b"\0")
    _send(sock, _GETSETELEM, _REQUEST_DUMP, asked, family, wanted)
    elements: Elements = {}
    interrupted = False
    while True:
        data = _received(sock, f"set {set_name}")
        offset = 0
        while offset + 16 <= len(data):
            at = offset
            length, kind, flags, number = struct.unpack_from("=IHHI", data, at)
            offset += (length + 3) & ~3
            if number != asked:  # left over from an abandoned dump
                continue
            interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
            if kind in (_ERROR, _DONE):
                code = struct.unpack_from("=i", data, at + 16)[0] if kind == _ERROR else 0
                if code == -errno.ENOENT:
                    raise NoSuchSet(set_name)
                if code:
                    raise KernelReadError(f"set {set_name}: error {-code}")
                return None if interrupted else elements
            collect(data, at + 20, at + length, elements)


def attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of each attribute between `start` and `end`."""
    while start + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, start)
        yield kind & 0x3FFF, start + 4, start + length
        start += (length + 3) & ~3


def collect(data: bytes, start: int, end: int, elements: Elements) -> None:
    """Add the elements in the attributes of one message."""
    for kind, first, last in attributes(data, start, end):
        if kind != _ELEMENTS:
            continue
        for _, inner, inner_end in attributes(data, first, last):
            # Key, key end and data are each one NFTA_DATA_VALUE (or _VERDICT) behind two headers.
            parts = {k: (s, e) for k, s, e in attributes(data, inner, inner_end) if k in _VALUES}
            start, stop = parts[_KEY]
            key = data[start + 4 : stop]
            if _KEY_END in parts:
                start, stop = parts[_KEY_END]
                key += data[start + 4 : stop]
            elements[key] = _data(data, *parts[_DATA]) if _DATA in parts else (b"", None)


def _data(data: bytes, start: int, end: int) -> tuple[bytes, int | None]:
    """The value; for a verdict, its chain's name and its number."""
    if data[start + 2] & 0x3F != _VERDICT:
        return data[start + 4 : end], None
    parts = {kind: data[s:e] for kind, s, e in attributes(data, start + 4, end)}
    return parts.get(_VERDICT_CHAIN, b"").rstrip(b"\0"), struct.unpack(">i", parts[_VERDICT_CODE])[0]


_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2, 1, 2
_VERBS = {-3: "jump", -4: "goto"}
_VALUES = frozenset((_KEY, _DATA, _KEY_END))
Elements = dict[bytes, tuple[bytes, int | None]]
