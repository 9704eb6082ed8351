"""Errors of the kernel by kind: callers depend on the kind, never on a message's text."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from engine.kernel.interface import KernelError


class ErrorKind(Enum):
    """Why a request failed."""

    NOT_THERE = "not there"
    EXISTS = "exists"
    BUSY = "busy"
    NOT_SUPPORTED = "not supported"
    NO_MEMORY = "no memory"
    NO_ROOM = "no room in the buffer"
    TIMED_OUT = "timed out"
    NOT_ALLOWED = "not allowed"
    OTHER = "other"


_KINDS = {
    errno.ENOENT: ErrorKind.NOT_THERE,
    errno.ESRCH: ErrorKind.NOT_THERE,
    errno.ENODEV: ErrorKind.NOT_THERE,
    errno.EADDRNOTAVAIL: ErrorKind.NOT_THERE,
    errno.EEXIST: ErrorKind.EXISTS,
    errno.EBUSY: ErrorKind.BUSY,
    errno.EOPNOTSUPP: ErrorKind.NOT_SUPPORTED,
    errno.EAFNOSUPPORT: ErrorKind.NOT_SUPPORTED,
    errno.EPROTONOSUPPORT: ErrorKind.NOT_SUPPORTED,
    errno.ENOPROTOOPT: ErrorKind.NOT_SUPPORTED,
    errno.ECONNREFUSED: ErrorKind.NOT_SUPPORTED,  # this kernel does not support the protocol
    errno.ENOMEM: ErrorKind.NO_MEMORY,
    errno.ENOBUFS: ErrorKind.NO_ROOM,
    errno.EMSGSIZE: ErrorKind.NO_ROOM,
    errno.ETIMEDOUT: ErrorKind.TIMED_OUT,
    errno.EPERM: ErrorKind.NOT_ALLOWED,
    errno.EACCES: ErrorKind.NOT_ALLOWED,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One failed request: its errno, its index in the sequence (-1: the whole sequence), and the request itself.

    `text` is the kernel's message and `offset` the position of the offending attribute in the request, 0 if unknown.
    """

    index: int
    code: int
    request: bytes = b""
    text: str = ""
    offset: int = 0

    @property
    def kind(self) -> ErrorKind:
        """The class of the error."""
        return _KINDS.get(self.code, ErrorKind.OTHER)

    def __str__(self) -> str:
        words = f"{os.strerror(self.code)} ({errno.errorcode.get(self.code, self.code)})"
        return f"{words}: {self.text}" if self.text else words


class NetlinkError(KernelError):
    """At least one failed request; `what` is the caller's description."""

    def __init__(self, refusals: Sequence[Refusal], what: str = "") -> None:
        self.refusals = tuple(refusals)
        words = f"{what}: {self.first}" if what else str(self.first)
        super().__init__(f"{words}, and {len(self.refusals) - 1} more" if len(self.refusals) > 1 else words)

    @property
    def first(self) -> Refusal:
        """The first error."""
        return self.refusals[0]

    @property
    def kind(self) -> ErrorKind:
        """The kind of the first error."""
        return self.first.kind

    @property
    def code(self) -> int:
        """The errno of the first error."""
        return self.first.code

    def about(self, what: str) -> NetlinkError:
        """The error with the caller's description."""
        return NetlinkError(self.refusals, what)
