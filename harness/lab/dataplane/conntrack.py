"""Fills a node's connection tracking table with entries of its own, marked so that only they are taken away again.

ctnetlink requests in bulk, unacknowledged: what counts is the table's count.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator

from harness.lab import network
from harness.lab.ctnetlink import (
    ACK,
    CREATE,
    DELETE,
    EXCLUSIVE,
    NETLINK_NETFILTER,
    NEW,
    ORIGINAL,
    REPLY,
    REQUEST,
    attribute,
    direction,
    message,
)

_UDP = 17
_MARK = 0x6B706871
_STATUS = 1 << 1 | 1 << 2 | 1 << 3
"""Replied to, assured, confirmed: of entries that are not assured a full table drops one for each new flow."""
_LIFETIME_SECONDS = 600
_BATCH = 256
_PORTS, _CLIENTS = 1 << 16, 0xC6120000
_PLACE = 0xABCD
"""Stands for a port while an entry is taken apart; the bytes come nowhere else in it."""
_COUNT, _MAX = (f"/proc/sys/net/netfilter/nf_conntrack_{name}" for name in ("count", "max"))


def fill(node: str, free: int) -> int:
    """Add entries until only `free` fit; how many. OSError when the kernel stops taking them."""
    count, most = _read(node, _COUNT), _read(node, _MAX)
    wanted = max(0, most - free - count)
    with network.entered(node):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    with sock:
        entries = _entries(wanted)
        while batch := b"".join(itertools.islice(entries, _BATCH)):
            sock.send(batch)
    held = _read(node, _COUNT)
    if held < most - free - most // 100:
        raise OSError(f"the table of {node} holds {held} of {most} entries after adding {wanted}")
    return wanted


def empty(node: str) -> None:
    """Take the entries away that `fill` added; OSError when the kernel refuses."""
    mark = attribute(8, struct.pack("!I", _MARK)) + attribute(21, struct.pack("!I", 0xFFFFFFFF))
    with network.entered(node):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    with sock:
        sock.send(message(DELETE, REQUEST | ACK, mark))
        answer = sock.recv(4096)
    code = -struct.unpack_from("=i", answer, 16)[0]
    if code:
        raise OSError(code, f"the kernel of {node} does not take entries away by mark")


def _read(node: str, path: str) -> int:
    return int(network.run(node, ["cat", path]).stdout)


def _entries(count: int) -> Iterator[bytes]:
    """That many requests, each for a flow of its own; 65,536 client ports an address."""
    for block in range(-(-count // _PORTS)):
        head, middle, tail = _entry(struct.pack("!I", _CLIENTS + block), _PLACE).split(struct.pack("!H", _PLACE))
        for port in range(min(_PORTS, count - block * _PORTS)):
            text = struct.pack("!H", port)
            yield b"".join((head, text, middle, text, tail))


def _entry(address: bytes, port: int) -> bytes:
    """A UDP flow between addresses that are nobody's (RFC 2544, 5737)."""
    client, server = (address, port), (b"\xc0\x00\x02\x01", 9)
    body = (
        direction(ORIGINAL, _UDP, client, server)
        + direction(REPLY, _UDP, server, client)
        + attribute(3, struct.pack("!I", _STATUS))
        + attribute(7, struct.pack("!I", _LIFETIME_SECONDS))
        + attribute(8, struct.pack("!I", _MARK))
    )
    return message(NEW, REQUEST | CREATE | EXCLUSIVE, body)
