"""Time limits of questions: whether a timeout counts.  On a clock of the test's own, which no load delays."""

from __future__ import annotations

import asyncio

from harness.lab.timed import LATE_SECONDS, holds

LIMIT_SECONDS = 0.2
STALL_SECONDS = LIMIT_SECONDS + 2 * LATE_SECONDS


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while it waits for a timer, or is held up."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select

        def pass_time(timeout: float | None) -> list:
            self._now += timeout or 0.0
            return select(0)

        self._selector.select = pass_time

    def time(self) -> float:
        return self._now

    def hold_up(self, seconds: float) -> None:
        self._now += seconds


def asked(delays: list[float], held_up: list[float]) -> tuple[bool, int]:
    """The answer to a question that takes each delay in turn while the loop is held up; and how often it was asked."""
    loop, count = Loop(), 0

    async def ask() -> bool:
        nonlocal count
        count += 1
        loop.call_later(0.01, loop.hold_up, held_up[count - 1])
        await asyncio.sleep(delays[count - 1])
        return True

    try:
        return loop.run_until_complete(holds(ask, LIMIT_SECONDS)), count
    finally:
        loop.close()


def test_a_timeout_is_not_repeated():
    assert asked([5], [0]) == (False, 1)


def test_an_answer_in_time_is_used():
    assert asked([0.01], [0]) == (True, 1)


def test_a_stalled_loop_asks_again():
    assert asked([5, 0.01], [STALL_SECONDS, 0]) == (True, 2)


def test_a_loop_that_always_stalls_ends():
    assert asked([5] * 3, [STALL_SECONDS] * 3) == (False, 3)
