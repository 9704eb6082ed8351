"""Checks with a time limit, made by a process that may itself be delayed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LATE_SECONDS = 0.1
"""A timer that fires this late shows that the event loop was held up, and answers may be waiting unread."""

_ATTEMPTS = 3


async def holds(ask: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Whether `ask` returns true in time; OSError as raised by it.

    A timeout of an event loop that was held up proves nothing about the other side, so the check is repeated.
    """
    now = asyncio.get_running_loop().time
    for _ in range(_ATTEMPTS):
        due = now() + seconds
        try:
            return await asyncio.wait_for(ask(), seconds)
        except TimeoutError:
            if now() < due + LATE_SECONDS:
                break
    return False
