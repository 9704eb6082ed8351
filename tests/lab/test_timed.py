"""Time limits of questions: whether a timeout counts."""

from __future__ import annotations

import asyncio
import time

from harness.lab.timed import LATE_SECONDS, holds


def asked(delays: list[float], held_up: list[float]) -> tuple[bool, int]:
    """The answer to a question that takes each delay in turn while the loop is held up; and how often it was asked."""
    count = 0

    async def ask() -> bool:
        nonlocal count
        count += 1
        # A blocking sleep is what holds an event loop up.
        asyncio.get_running_loop().call_later(0.01, time.sleep, held_up[count - 1])
        await asyncio.sleep(delays[count - 1])
        return True

    return asyncio.run(holds(ask, 0.2)), count


def test_a_timeout_is_not_repeated():
    assert asked([5], [0]) == (False, 1)


def test_an_answer_in_time_is_used():
    assert asked([0.01], [0]) == (True, 1)


def test_a_stalled_loop_asks_again():
    late = 0.2 + 2 * LATE_SECONDS
    assert asked([5, 0.01], [late, 0]) == (True, 2)


def test_a_loop_that_always_stalls_ends():
    late = 0.2 + 2 * LATE_SECONDS
    assert asked([5] * 3, [late] * 3) == (False, 3)
