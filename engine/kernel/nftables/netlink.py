"""nf_tables set elements as netlink messages: pure encoding, nothing is sent here.

Wire format: linux/netfilter/nf_tables.h (NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM) inside a batch of
linux/netfilter/nfnetlink.h.  All elements of a set have one size, so their headers are constants
and encoding an element is a concatenation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from engine.backends.nftables.program import SetChange

NFPROTO = {4: 2, 6: 10}
TABLE = "kube-proxy"

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_GETTABLE, _GETRULE = 0x0A01, 0x0A07
_NEWSETELEM, _DELSETELEM = 0x0A0C, 0x0A0E
_GETGEN = 0x0A10
_REQUEST, _ACK, _DUMP, _CREATE = 1, 4, 0x300, 0x400
_NESTED = 0x8000
_ELEM_LIST_TABLE, _ELEM_LIST_SET, _ELEM_LIST_ELEMENTS = 1, 2, 3
_KEY, _DATA, _KEY_END = 1, 2, 10
_LIST_BYTES = 60_000
INTERVAL_SETS = frozenset({"firewall-allowed"})


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def _message(kind: int, flags: int, family: int, resource: int, payload: bytes) -> bytes:
    body = struct.pack("=BBH", family, 0, resource) + payload
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def _big_endian(value: int) -> int:
    return struct.unpack("=H", struct.pack(">H", value))[0]


BEGIN = _message(_BATCH_BEGIN, _REQUEST, 0, _big_endian(10), b"")
END = _message(_BATCH_END, _REQUEST | _ACK, 0, _big_endian(10), b"")


def get_table(family: int, table: str = TABLE) -> bytes:
    """A request for one table; refused when it is not there."""
    return _message(_GETTABLE, _REQUEST, NFPROTO[family], 0, _attribute(_ELEM_LIST_TABLE, table.encode() + b"\0"))


def get_rules(family: int) -> bytes:
    """A request for all rules of the table."""
    return _message(
        _GETRULE, _REQUEST | _DUMP, NFPROTO[family], 0, _attribute(_ELEM_LIST_TABLE, TABLE.encode() + b"\0")
    )


GET_GENERATION = _message(_GETGEN, _REQUEST, 0, 0, b"")
"""A request for the number of the last transaction, whoever made it."""


def messages(family: int, change: SetChange, table: str = TABLE) -> Iterator[bytes]:
    """Messages for one set: deletions first, each at most 64 KiB."""
    deletes = [(key, b"") for key in change.delete]
    names = _attribute(_ELEM_LIST_TABLE, table.encode() + b"\0")
    names += _attribute(_ELEM_LIST_SET, change.name.encode() + b"\0")
    yield from _elements(family, change.name, names, _DELSETELEM, _REQUEST, deletes)
    yield from _elements(family, change.name, names, _NEWSETELEM, _REQUEST | _CREATE, change.add)


def _elements(family: int, name: str, head: bytes, kind: int, flags: int, elements: list) -> Iterator[bytes]:
    if not elements:
        return
    if name in INTERVAL_SETS:
        encoded = [_interval(key) for key, _ in elements]
        step = max(1, _LIST_BYTES // len(encoded[0]))
    else:
        key_head, data_head, size = _heads(*map(len, elements[0]))
        step = _LIST_BYTES // size
    for start in range(0, len(elements), step):
        if name in INTERVAL_SETS:
            joined = b"".join(encoded[start : start + step])
        else:
            joined = b"".join([key_head + k + data_head + d for k, d in elements[start : start + step]])
        body = head + _attribute(_NESTED | _ELEM_LIST_ELEMENTS, joined)
        yield _message(kind, flags, NFPROTO[family], 0, body)


def _heads(key_bytes: int, data_bytes: int) -> tuple[bytes, bytes, int]:
    """Constant bytes before key and data, and the size of one element."""
    key = struct.pack("=HHHH", 8 + key_bytes, _NESTED | _KEY, 4 + key_bytes, 1)
    data = struct.pack("=HHHH", 8 + data_bytes, _NESTED | _DATA, 4 + data_bytes, 1) if data_bytes else b""
    size = 4 + len(key) + key_bytes + len(data) + data_bytes
    return struct.pack("=HH", size, _NESTED | 1) + key, data, size


def _interval(key: bytes) -> bytes:
    """Key and key end of a range, each half of `key`."""
    half = len(key) // 2
    first = _attribute(_NESTED | _KEY, _attribute(1, key[:half]))
    last = _attribute(_NESTED | _KEY_END, _attribute(1, key[half:]))
    return _attribute(_NESTED | 1, first + last)
