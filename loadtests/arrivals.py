"""When requests are due, independent of earlier ones: an open workload model. Pure."""

from __future__ import annotations

import math
from random import Random


class Stream:
    """An even stream of arrivals from `start_ns` on, with a random phase; its rate may change.

    `next_ns` is when the next one is due, by CLOCK_MONOTONIC.
    """

    def __init__(self, rate: float, rng: Random, start_ns: int) -> None:
        self._rate = rate
        self._since = start_ns + rng.random() * 1e9 / rate
        self._number = 0

    @property
    def next_ns(self) -> int:
        """Computed from the phase and the rate, since repeated addition would drift."""
        return round(self._since + self._number * 1e9 / self._rate)

    def advance(self, rate: float) -> None:
        """Proceed to the next arrival, at the given rate."""
        if rate != self._rate:
            self._since, self._number, self._rate = self.next_ns, 0, rate
        self._number += 1


def users_for(rate: float, most_each: float) -> tuple[int, float]:
    """The number of streams of at most `most_each` per second that add up to the rate, and the rate of each."""
    users = max(1, math.ceil(rate / most_each))
    return users, rate / users
