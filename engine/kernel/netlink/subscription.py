"""The kernel's notifications to the multicast groups of a protocol."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Iterable
from typing import NamedTuple

from engine.kernel.netlink.errors import NetlinkError, Refusal
from engine.kernel.netlink.waiting import RECEIVE_BYTES, SOL_NETLINK, widen
from engine.kernel.netlink.wire import Message, messages

NFTABLES_GROUP, NEW_GENERATION = 7, 10 << 8 | 15
"""In protocol NETFILTER: the group of all nf_tables changes, and the message that ends a transaction."""
_ADD_MEMBERSHIP = 1
_BUFFER_BYTES = 8 << 20


class Notices(NamedTuple):
    """Notifications in order; `lost`: some did not fit into the buffer."""

    messages: list[Message]
    lost: bool = False


class Subscription:
    """One socket in the `groups` of its protocol; one thread receives, any may close."""

    def __init__(self, sock: socket.socket, groups: Iterable[int], buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._sock = sock
        self._closing, self._wake = socket.socketpair()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._closing, select.POLLIN)
        try:
            widen(sock, receive_bytes=buffer_bytes)
            with contextlib.suppress(OSError):  # it already has an address
                sock.bind((0, 0))  # without an address the socket would count as the sender
            for group in groups:
                sock.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            raise NetlinkError([Refusal(-1, error.errno or 0)], "cannot receive notifications of the kernel") from error

    def receive(self, seconds: float | None = None) -> Notices | None:
        """The next notifications; empty after a timeout; None once this is closed."""
        ready = {descriptor for descriptor, _ in self._poll.poll(None if seconds is None else seconds * 1000)}
        if self._closing.fileno() in ready:
            return None
        if not ready:
            return Notices([])
        try:
            return Notices(messages(self._sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)))
        except BlockingIOError:
            return Notices([])
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return Notices([], lost=True)
            raise NetlinkError([Refusal(-1, error.errno or 0)], "cannot receive notifications of the kernel") from error

    def close(self) -> None:
        """Make `receive` return None from now on."""
        self._wake.close()
