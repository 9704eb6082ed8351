"""Encoding of netlink messages for nf_tables: set elements and queries; no I/O.

Wire format: linux/netfilter/nf_tables.h.  All elements of a set have the same size, so their headers are constants
and encoding an element is a concatenation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from engine.backends.nftables.program import Element, SetChange
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
    """Whether the description of a table, as `get_table` returns it, says that no hook leads to its chains."""
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
    deletes = [(key, b"") for key in change.delete]
    names = text(_TABLE, table) + text(_SET, change.name)
    yield from _elements(family, change.name, names, _DELSETELEM, 0, deletes)
    yield from additions(family, change.name, change.add, table)


def additions(family: int, name: str, elements: list[Element], table: str = TABLE) -> Iterator[bytes]:
    """Messages that add elements to a set."""
    yield from _elements(family, name, text(_TABLE, table) + text(_SET, name), _NEWSETELEM, CREATE, elements)


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


def _elements(family: int, name: str, head: bytes, kind: int, flags: int, elements: list[Element]) -> Iterator[bytes]:
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
        yield nfnetlink(kind, flags, NFPROTO[family], head + nested(_ELEMENTS, joined))


def _heads(key_bytes: int, data_bytes: int) -> tuple[bytes, bytes, int]:
    """Constant bytes before key and data, and the size of one element."""
    key = struct.pack("=HHHH", 8 + key_bytes, _NESTED | _KEY, 4 + key_bytes, 1)
    data = struct.pack("=HHHH", 8 + data_bytes, _NESTED | _DATA, 4 + data_bytes, 1) if data_bytes else b""
    size = 4 + len(key) + key_bytes + len(data) + data_bytes
    return struct.pack("=HH", size, _NESTED | 1) + key, data, size


def _interval(key: bytes) -> bytes:
    """Key and key end of a range, each half of `key`."""
    half = len(key) // 2
    first = nested(_KEY, attribute(1, key[:half]))
    last = nested(_KEY_END, attribute(1, key[half:]))
    return nested(1, first + last)
