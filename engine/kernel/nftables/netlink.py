"""Encoding of netlink messages for nf_tables: set elements and queries; no I/O.

Wire format: linux/netfilter/nf_tables.h.  All elements of a set have the same size, so their headers are constants.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from engine.backends.nftables.program import SetChange
from engine.kernel.netlink import CREATE, Refusal, attribute, attributes, nested, nfnetlink, text

NFPROTO = {4: 2, 6: 10}
TABLE = "kube-proxy"
SUBSYSTEM = 10

_NEWTABLE, _GETTABLE, _DELTABLE = 0x0A00, 0x0A01, 0x0A02
_NEWCHAIN, _GETCHAIN, _GETRULE = 0x0A03, 0x0A04, 0x0A07
_NEWSETELEM, _DELSETELEM = 0x0A0C, 0x0A0E
_GETGEN = 0x0A10
_NESTED = 0x8000
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_FLAGS, _CHAIN_NAME = 2, 3
_DORMANT = 1
_KEY, _DATA, _KEY_END = 1, 2, 10
_LIST_BYTES = 60_000
_HEADERS = 20
INTERVAL_SETS = frozenset({"firewall-allowed"})


def get_table(family: int, table: str = TABLE) -> bytes:
    """A request for one table; fails if it does not exist."""
    return nfnetlink(_GETTABLE, 0, NFPROTO[family], text(_TABLE, table))


def is_dormant(table: bytes) -> bool:
    """Whether a table's description, as returned for `get_table`, has the dormant flag: no hook is active."""
    return bool(int.from_bytes(attributes(table).get(_FLAGS, b""), "big") & _DORMANT)


def wake(family: int, table: str) -> bytes:
    """Register the hooks of a dormant table."""
    flags = attribute(_FLAGS, bytes(4))
    return nfnetlink(_NEWTABLE, 0, NFPROTO[family], text(_TABLE, table) + flags)


def delete_table(family: int, table: str) -> bytes:
    """Delete a table with everything in it."""
    return nfnetlink(_DELTABLE, 0, NFPROTO[family], text(_TABLE, table))


def get_chain(family: int, table: str, chain: str) -> bytes:
    """A request for one chain; fails if it does not exist."""
    return nfnetlink(_GETCHAIN, 0, NFPROTO[family], text(_TABLE, table) + text(_CHAIN_NAME, chain))


def add_chain(family: int, table: str, chain: str) -> bytes:
    """Add an empty chain."""
    return nfnetlink(_NEWCHAIN, CREATE, NFPROTO[family], text(_TABLE, table) + text(_CHAIN_NAME, chain))


def get_rules(family: int) -> bytes:
    """A request for all rules of the table."""
    return nfnetlink(_GETRULE, 0, NFPROTO[family], text(_TABLE, TABLE))


GET_GENERATION = nfnetlink(_GETGEN, 0, 0, b"")
"""A request for the number of the last transaction of any process."""


def messages(family: int, change: SetChange, table: str = TABLE) -> Iterator[bytes]:
    """Messages for one set: deletions first, each at most 64 KiB."""
    if change.delete:
        yield from _elements(family, change.name, table, _DELSETELEM, 0, change.delete, len(change.delete[0]))
    yield from additions(family, change, table)


def additions(
    family: int, change: SetChange, table: str = TABLE, first: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """Messages that add the elements from number `first` up to but not including `end` to a set."""
    if elements := change.add[first:end]:
        yield from _elements(family, change.name, table, _NEWSETELEM, CREATE, elements, change.key_bytes)


def refused(refusal: Refusal) -> str:
    """Description of a failed message: the set, and the element if the kernel reports it."""
    if not refusal.request:
        return "the transaction"
    kind = struct.unpack_from("=H", refusal.request, 4)[0]
    name = attributes(refusal.request[_HEADERS:]).get(_SET, b"").rstrip(b"\0").decode(errors="replace")
    what = f"{'deletions from' if kind == _DELSETELEM else 'additions to'} {name}"
    if _HEADERS < refusal.offset < len(refusal.request):
        length = struct.unpack_from("=H", refusal.request, refusal.offset)[0]
        element = attributes(refusal.request[refusal.offset + 4 : refusal.offset + length])
        if _KEY in element:
            what += f", element {element[_KEY][4:].hex()}"
    return what


def _elements(
    family: int, name: str, table: str, kind: int, flags: int, elements: list[bytes], key_bytes: int
) -> Iterator[bytes]:
    head = text(_TABLE, table) + text(_SET, name)
    interval = name in INTERVAL_SETS
    encoder = _Intervals(len(elements[0])) if interval else _Encoder(key_bytes, len(elements[0]) - key_bytes)
    step = max(1, _LIST_BYTES // encoder.size)
    for start in range(0, len(elements), step):
        yield nfnetlink(
            kind, flags, NFPROTO[family], head + nested(_ELEMENTS, encoder.encode(elements[start : start + step]))
        )


class _Encoder:
    """Encodes all elements of one size at once: each byte position is written for all of them by one slice."""

    def __init__(self, key_bytes: int, data_bytes: int) -> None:
        key_head, data_head, self.size = _heads(key_bytes, data_bytes)
        self._blank = key_head + bytes(key_bytes) + data_head + bytes(data_bytes)
        data = len(key_head) + key_bytes + len(data_head)
        self._places = (*range(len(key_head), len(key_head) + key_bytes), *range(data, data + data_bytes))

    def encode(self, elements: list[bytes]) -> bytes:
        """List members, in order."""
        joined, encoded = b"".join(elements), bytearray(self._blank * len(elements))
        for number, place in enumerate(self._places):
            encoded[place :: self.size] = joined[number :: len(self._places)]
        return bytes(encoded)


def _heads(key_bytes: int, data_bytes: int) -> tuple[bytes, bytes, int]:
    """Constant bytes before key and data, and the size of one element."""
    key = struct.pack("=HHHH", 8 + key_bytes, _NESTED | _KEY, 4 + key_bytes, 1)
    data = struct.pack("=HHHH", 8 + data_bytes, _NESTED | _DATA, 4 + data_bytes, 1) if data_bytes else b""
    size = 4 + len(key) + key_bytes + len(data) + data_bytes
    return struct.pack("=HH", size, _NESTED | 1) + key, data, size


class _Intervals:
    """Encodes ranges: key and key end are the halves of an element."""

    def __init__(self, key_bytes: int) -> None:
        self.size = len(self.encode([bytes(key_bytes)]))

    def encode(self, elements: list[bytes]) -> bytes:
        """List members, in order."""
        half = len(elements[0]) // 2
        pairs = [
            nested(_KEY, attribute(1, key[:half])) + nested(_KEY_END, attribute(1, key[half:])) for key in elements
        ]
        return b"".join([nested(1, pair) for pair in pairs])
