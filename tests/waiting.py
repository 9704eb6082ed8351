"""Waiting in tests: for a condition, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SECONDS = 60.0
"""Enough on a machine that is busy with other tests."""


def until(condition: Callable[[], T], what: str = "the condition", seconds: float = SECONDS) -> T:
    """The condition's first true value; AssertionError naming `what` if it is not true in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)  # the pause between two looks: what is waited for needs the CPU
    return found
