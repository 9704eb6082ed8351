"""The proxy process as a kernel: starts it with `start`, sends it programs, ends it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from engine.backends.userspace.program import UserspaceProgram
from engine.kernel.interface import Applied, KernelError
from engine.kernel.userspace.channel import APPLY, EVERYTHING, FINE, HEADER_BYTES, frame, unframe

ANSWER_SECONDS, END_SECONDS = 120, 10
_PIECE_BYTES, _LAST_NUMBER = 1 << 16, 0xFFFFFFFF

Start = Callable[[list[str], int], "subprocess.Popen[bytes]"]
"""Starts a command that inherits one file descriptor, in the right network namespace."""


class UserspaceKernel:
    """One proxy process, which ends, and removes its addresses, when this process ends."""

    def __init__(self, start: Start, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._channel, theirs = socket.socketpair()
        self._seconds = answer_seconds
        self._number = 0
        self._unsent, self._unread = bytearray(), bytearray()
        command = [sys.executable, "-m", "engine.kernel.userspace.server", str(theirs.fileno())]
        with theirs:
            self._process = start(command, theirs.fileno())

    def apply(self, program: UserspaceProgram) -> Applied:
        """Apply a program; KernelError lists sockets that could not be opened, all others are open."""
        body = program.encoded()
        self._ask(APPLY, body)
        return Applied(len(body))

    def everything(self, family: int) -> UserspaceProgram | None:
        """The process's state of a family; None if nothing was applied."""
        answer = self._ask(EVERYTHING, b"%d" % family)
        return msgspec.json.decode(answer, type=UserspaceProgram) if answer else None

    def close(self) -> None:
        """End the process; its sockets are closed and its addresses removed."""
        self._channel.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, kind: bytes, body: bytes) -> bytes:
        """Send a request and return its reply, within the time limit; data left by earlier requests is flushed."""
        self._number = self._number % _LAST_NUMBER + 1
        self._unsent += frame(self._number, kind, body)
        until = time.monotonic() + self._seconds
        try:
            while self._unsent:
                self._limit(until)
                del self._unsent[: self._channel.send(self._unsent)]
            number = 0
            while number != self._number:
                number, answer, found = self._read(until)
        except OSError as error:
            raise KernelError(f"the userspace proxy does not answer: {error}") from error
        if answer != FINE:
            raise KernelError(found.decode())
        return found

    def _read(self, until: float) -> tuple[int, bytes, bytes]:
        """One reply: its number, kind and body."""
        while True:
            number, kind, size = 0, b"", 0
            if whole := len(self._unread) >= HEADER_BYTES:
                number, kind, size = unframe(bytes(self._unread[:HEADER_BYTES]))
            if whole and len(self._unread) >= HEADER_BYTES + size:
                body = bytes(self._unread[HEADER_BYTES : HEADER_BYTES + size])
                del self._unread[: HEADER_BYTES + size]
                return number, kind, body
            self._limit(until)
            piece = self._channel.recv(_PIECE_BYTES)
            if not piece:
                raise ConnectionError(f"the process ended with exit code {self._process.poll()}")
            self._unread += piece

    def _limit(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out after {self._seconds:g} s")
        self._channel.settimeout(left)
