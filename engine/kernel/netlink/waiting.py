"""Socket buffers, and receives limited by a deadline and by the end of the process."""

from __future__ import annotations

import errno
import os
import select
import socket

ANSWER_SECONDS = 5.0
"""Time limit for a reply.  The kernel replies before `send` returns, so a late reply never arrives."""

RECEIVE_BYTES = 1 << 17
"""Larger than any datagram of the kernel."""

SOL_NETLINK = 270
CAP_ACK, EXT_ACK = 10, 11
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_ENDING = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def end_waits() -> None:
    """End all waits for the kernel, now and later; existing replies are still read.  For signal handlers."""
    os.eventfd_write(_ENDING, 1)


def ending() -> bool:
    """Whether `end_waits` was called."""
    return bool(select.select([_ENDING], [], [], 0)[0])


def widen(sock: socket.socket, send_bytes: int = 0, receive_bytes: int = 0) -> None:
    """Set the buffer sizes, or the largest sizes allowed."""
    for size, forced, plain in (
        (send_bytes, _SNDBUFFORCE, socket.SO_SNDBUF),
        (receive_bytes, _RCVBUFFORCE, socket.SO_RCVBUF),
    ):
        if size:
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, size)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, plain, size)


def prefer(sock: socket.socket, *options: int) -> None:
    """Set netlink socket options that old kernels may lack."""
    for option in options:
        try:
            sock.setsockopt(SOL_NETLINK, option, 1)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise


def receive(sock: socket.socket, seconds: float) -> bytes:
    """One datagram; TimeoutError if none arrives in time, or the process is to end.

    If a datagram is available, this takes one system call.
    """
    try:
        return sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(_ENDING, select.POLLIN)
    poll.poll(seconds * 1000)
    try:
        return sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:
        raise TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:g} s") from None


def discard(sock: socket.socket) -> None:
    """Discard received datagrams, and clear a buffer overrun."""
    while True:
        try:
            sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
