"""Sockets that each misbehave in one way, and requests to test them."""

from __future__ import annotations

import socket
import struct

from engine.kernel.netlink import CREATE, nfnetlink, text

NFT, INET = 10, 1
_NEWTABLE, _NEWCHAIN, _DELCHAIN, _GETTABLE = 0x0A00, 0x0A03, 0x0A05, 0x0A01


class Wrapped:
    """A netlink socket that passes everything on."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str):
        return getattr(self._sock, name)


class Deaf(Wrapped):
    """The kernel never receives the requests, so it never answers."""

    def send(self, data: bytes) -> int:
        return len(data)


class Recording(Wrapped):
    """Keeps what was sent."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(bytes(data))
        return self._sock.send(data)


class Older(Wrapped):
    """As kernels before 6.10: the end of a batch is not answered, whatever it asks for."""

    def send(self, data: bytes) -> int:
        data = bytearray(data)
        for offset, kind, flags in headers(data):
            if kind == 0x11:
                struct.pack_into("=H", data, offset + 6, flags & ~4)
        return self._sock.send(data)


def headers(data: bytes) -> list[tuple[int, int, int]]:
    """(offset, kind, flags) of each message."""
    found, offset = [], 0
    while offset < len(data):
        length, kind, flags = struct.unpack_from("=IHH", data, offset)
        found.append((offset, kind, flags))
        offset += (length + 3) & ~3
    return found


def new_table(name: str) -> bytes:
    """Makes a table, or leaves it as it is."""
    return nfnetlink(_NEWTABLE, CREATE, INET, text(1, name))


def get_table(name: str) -> bytes:
    """Asks for it."""
    return nfnetlink(_GETTABLE, 0, INET, text(1, name))


def new_chain(table: str, name: str) -> bytes:
    """Makes a chain."""
    return nfnetlink(_NEWCHAIN, CREATE, INET, text(1, table) + text(3, name))


def delete_chain(table: str, name: str) -> bytes:
    """Deletes a chain, refused where there is none."""
    return nfnetlink(_DELCHAIN, 0, INET, text(1, table) + text(3, name))
