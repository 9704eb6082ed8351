"""The proxy process as a kernel: starts it where `start` says, tells it programs, ends it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import msgspec

from engine.backends.userspace.program import UserspaceProgram
from engine.kernel.base import Applied, KernelError
from engine.kernel.userspace.channel import APPLY, EVERYTHING, FINE, HEADER_BYTES, frame, unframe

ANSWER_SECONDS, END_SECONDS = 120, 10

Start = Callable[[list[str], int], "subprocess.Popen[bytes]"]
"""Starts a command that inherits one file descriptor, in the network namespace that is meant."""


class UserspaceKernel:
    """One proxy process, which also ends, and takes its addresses along, when this one does."""

    def __init__(self, start: Start) -> None:
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(ANSWER_SECONDS)
        command = [sys.executable, "-m", "engine.kernel.userspace.server", str(theirs.fileno())]
        with theirs:
            self._process = start(command, theirs.fileno())

    def apply(self, program: UserspaceProgram) -> Applied:
        """Live when this returns; KernelError names sockets that could not be opened, the others are."""
        message = frame(APPLY, program.encoded())
        self._ask(message)
        return Applied(len(message))

    def everything(self, family: int) -> UserspaceProgram | None:
        """All that the process holds of a family; None when nothing was ever applied."""
        answer = self._ask(frame(EVERYTHING, b"%d" % family))
        return msgspec.json.decode(answer, type=UserspaceProgram) if answer else None

    def close(self) -> None:
        """End the process: sockets closed, addresses gone."""
        self._channel.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, message: bytes) -> bytes:
        try:
            self._channel.sendall(message)
            kind, size = unframe(self._read(HEADER_BYTES))
            body = self._read(size)
        except OSError as error:
            raise KernelError(f"the userspace proxy does not answer: {error}") from error
        if kind != FINE:
            raise KernelError(body.decode())
        return body

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._channel.recv(size - len(data))
            if not piece:
                raise ConnectionError(f"it has ended with exit code {self._process.poll()}")
            data += piece
        return bytes(data)
