"""Waits for resources that a killed process still holds for a moment: locks, sockets, ports.

A process that was killed has lost its command line, and may look gone, before the kernel has closed its files.  A
command that is killed and started again at once must not be rejected as already running.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import BinaryIO, TypeVar

T = TypeVar("T")

HANDOVER_SECONDS = 2.0
"""More than the kernel needs to end a large process on a busy machine."""
_LOOK_SECONDS = 0.02
_IN_USE = (errno.EAGAIN, errno.EADDRINUSE)


def lock(file: BinaryIO, seconds: float = HANDOVER_SECONDS) -> None:
    """Lock an open file for this process alone; BlockingIOError if another one still holds it after `seconds`."""
    take(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), seconds)


def take(start: Callable[[], T], seconds: float = HANDOVER_SECONDS) -> T:
    """`start()`, again while it finds a lock or an address in use; its OSError if it still does after `seconds`."""
    for last in _attempts(seconds):
        try:
            return start()
        except OSError as error:
            if last or error.errno not in _IN_USE:
                raise
            time.sleep(_LOOK_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def free(held: Callable[[], bool], seconds: float = HANDOVER_SECONDS) -> bool:
    """Whether `held` becomes false within `seconds`."""
    for last in _attempts(seconds):
        if not held():
            return True
        if not last:
            time.sleep(_LOOK_SECONDS)
    return False


async def listen(start: Callable[[], Awaitable[None]], seconds: float = HANDOVER_SECONDS) -> None:
    """Like `take`, for an asyncio server."""
    for last in _attempts(seconds):
        try:
            return await start()
        except OSError as error:
            if last or error.errno not in _IN_USE:
                raise
            await asyncio.sleep(_LOOK_SECONDS)


def ended(pid: int, seconds: float) -> bool:
    """Whether a process, with all its threads, ends within `seconds`."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], seconds)[0])
    finally:
        os.close(watched)


def _attempts(seconds: float) -> Iterator[bool]:
    """Yields whether the attempt is the last one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield False
    yield True
