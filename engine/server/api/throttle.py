"""How many requests the API server gets of this process: clientConnection's qps and burst, as client-go takes them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

DEFAULT_QPS, DEFAULT_BURST = 5.0, 10


class Throttle:
    """A bucket of `burst` requests that fills at `qps` a second; 0 is the default, a negative `qps` no limit."""

    def __init__(
        self,
        qps: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds_each = 1 / (qps or DEFAULT_QPS) if qps >= 0 else 0.0
        self._ahead = (burst or DEFAULT_BURST) - 1
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = -math.inf
        """When the next request's turn is; in the past while turns are saved up."""

    def __call__(self) -> None:
        """Wait for this request's turn; those that wait go one after the other."""
        with self._lock:
            now = self._clock()
            # However long nobody asked, no more than a burst of turns has been saved up.
            turn = max(self._next, now - self._ahead * self._seconds_each)
            self._next = turn + self._seconds_each
        if turn > now:
            self._sleep(turn - now)
