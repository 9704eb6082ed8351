"""Elements of nf_tables sets, read from the kernel by netlink dumps (NFT_MSG_GETSETELEM)."""

from __future__ import annotations

import errno
import socket
import struct

_GETSETELEM = 0x0A0D
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_PROTOCOL = {4: 2, 6: 10}
_RETRIES = 10
_ELEMENTS, _KEY, _DATA, _KEY_END = 3, 1, 2, 10


class KernelReadError(RuntimeError):
    """The kernel would not let a set be read."""


class NoSuchSet(KernelReadError):
    """The kernel has no such table or set."""


def dump(sock: socket.socket, family: int, set_name: str) -> dict[bytes, bytes]:
    """{key: data} in raw register bytes; for ranges the key is first address block then last."""
    for _ in range(_RETRIES):
        elements = _dump_once(sock, family, set_name)
        if elements is not None:
            return elements
    raise KernelReadError(f"set {set_name} kept changing while it was read")


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _dump_once(sock: socket.socket, family: int, set_name: str) -> dict[bytes, bytes] | None:
    body = struct.pack("=BBH", _PROTOCOL[family], 0, 0)
    body += _attribute(1, b"kube-proxy\0") + _attribute(2, set_name.encode() + b"\0")
    sock.send(struct.pack("=IHHII", 16 + len(body), _GETSETELEM, _REQUEST_DUMP, 1, 0) + body)
    elements: dict[bytes, bytes] = {}
    interrupted = False
    while True:
        data = sock.recv(1 << 20)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags = struct.unpack_from("=IHH", data, offset)
            interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
            if kind in (_ERROR, _DONE):
                code = struct.unpack_from("=i", data, offset + 16)[0] if kind == _ERROR else 0
                if code == -errno.ENOENT:
                    raise NoSuchSet(set_name)
                if code:
                    raise KernelReadError(f"set {set_name}: error {-code}")
                return None if interrupted else elements
            _collect(data, offset + 20, offset + length, elements)
            offset += (length + 3) & ~3


def _attributes(data: bytes, start: int, end: int):
    while start + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, start)
        yield kind & 0x3FFF, start + 4, start + length
        start += (length + 3) & ~3


def _collect(data: bytes, start: int, end: int, elements: dict[bytes, bytes]) -> None:
    for kind, first, last in _attributes(data, start, end):
        if kind != _ELEMENTS:
            continue
        for _, inner, inner_end in _attributes(data, first, last):
            # Key, key end and data are each one NFTA_DATA_VALUE (or _VERDICT) behind two headers.
            parts = {k: (s, e) for k, s, e in _attributes(data, inner, inner_end) if k in _VALUES}
            start, stop = parts[_KEY]
            key = data[start + 4 : stop]
            if _KEY_END in parts:
                start, stop = parts[_KEY_END]
                key += data[start + 4 : stop]
            elements[key] = _data(data, *parts[_DATA]) if _DATA in parts else b""


def _data(data: bytes, start: int, end: int) -> bytes:
    """The value, or of a verdict the name of its chain."""
    if data[start + 2] & 0x3F != _VERDICT:
        return data[start + 4 : end]
    chains = [data[s:e] for kind, s, e in _attributes(data, start + 4, end) if kind == _VERDICT_CHAIN]
    return chains[0].rstrip(b"\0") if chains else b""


_VERDICT, _VERDICT_CHAIN = 2, 2
_VALUES = frozenset((_KEY, _DATA, _KEY_END))
