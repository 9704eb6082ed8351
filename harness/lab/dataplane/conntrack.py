"""Fills a node's connection tracking table with marked entries, so that only these are removed again.

Uses ctnetlink requests in bulk, and verifies the result by the table's count.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from engine.kernel.netlink import CREATE, EXCLUSIVE, NETFILTER, Connection, ErrorKind, NetlinkError, attribute
from harness.lab.dataplane import network
from harness.lab.dataplane.ctnetlink import DELETE, NEW, ORIGINAL, REPLY, direction, message

_UDP = 17
_MARK = 0x6B706871
_STATUS = 1 << 1 | 1 << 2 | 1 << 3
"""Replied to, assured, confirmed: to make room for new flows, a full table evicts entries that are not assured."""
_LIFETIME_SECONDS = 600
_BATCH = 4096
_EXPECTED = (ErrorKind.EXISTS, ErrorKind.NO_MEMORY)
"""Expected errors when filling: the entry exists, or the table is full."""
_PORTS, _CLIENTS = 1 << 16, 0xC6120000
_PLACE = 0xABCD
"""Placeholder for a port in an encoded entry, in which these bytes occur nowhere else."""
_COUNT, _MAX = (f"/proc/sys/net/netfilter/nf_conntrack_{name}" for name in ("count", "max"))


def fill(node: str, free: int, added: int = 0) -> int:
    """Add entries after `added` earlier ones until only `free` fit; returns their number. OSError if refused."""
    count, most = _read(node, _COUNT), _read(node, _MAX)
    wanted = max(0, most - free - count)
    with _connected(node) as connection:
        entries = itertools.islice(_entries(added + wanted), added, None)
        while batch := list(itertools.islice(entries, _BATCH)):
            for refusal in connection.perform(batch):
                if refusal.kind not in _EXPECTED:
                    raise OSError(refusal.code, f"the kernel of {node} rejects entries: {refusal}")
    held = _read(node, _COUNT)
    if held < most - free - most // 100:
        raise OSError(f"the table of {node} holds {held} of {most} entries after adding {wanted}")
    return wanted


def empty(node: str) -> None:
    """Remove the entries that `fill` added; OSError if the kernel refuses."""
    mark = attribute(8, struct.pack("!I", _MARK)) + attribute(21, struct.pack("!I", 0xFFFFFFFF))
    try:
        with _connected(node) as connection:
            connection.require([message(DELETE, 0, mark)])
    except NetlinkError as error:
        raise OSError(error.code, f"the kernel of {node} does not remove entries by mark: {error}") from error


@contextmanager
def _connected(node: str) -> Iterator[Connection]:
    with network.entered(node):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
    with sock:
        yield Connection(sock)


def _read(node: str, path: str) -> int:
    return int(network.run(node, ["cat", path]).stdout)


def _entries(count: int) -> Iterator[bytes]:
    """The given number of requests, each for a different flow; 65,536 client ports per address."""
    for block in range(-(-count // _PORTS)):
        head, middle, tail = _entry(struct.pack("!I", _CLIENTS + block), _PLACE).split(struct.pack("!H", _PLACE))
        for port in range(min(_PORTS, count - block * _PORTS)):
            text = struct.pack("!H", port)
            yield b"".join((head, text, middle, text, tail))


def _entry(address: bytes, port: int) -> bytes:
    """A UDP flow between unused addresses (RFC 2544, 5737)."""
    client, server = (address, port), (b"\xc0\x00\x02\x01", 9)
    body = (
        direction(ORIGINAL, _UDP, client, server)
        + direction(REPLY, _UDP, server, client)
        + attribute(3, struct.pack("!I", _STATUS))
        + attribute(7, struct.pack("!I", _LIFETIME_SECONDS))
        + attribute(8, struct.pack("!I", _MARK))
    )
    return message(NEW, CREATE | EXCLUSIVE, body)
