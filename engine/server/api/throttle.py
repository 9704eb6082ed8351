"""Limits requests to the API server by clientConnection's qps and burst, as client-go does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

DEFAULT_QPS, DEFAULT_BURST = 5.0, 10


class Throttle:
    """A token bucket of `burst` requests, refilled at `qps` per second; 0 is the default, a negative `qps` no limit."""

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
        """When the next request may be sent; in the past while the bucket is not empty."""

    def __call__(self) -> None:
        """Wait until this request may be sent; requests are served in order."""
        with self._lock:
            now = self._clock()
            # After an idle period the bucket holds at most a burst.
            turn = max(self._next, now - self._ahead * self._seconds_each)
            self._next = turn + self._seconds_each
        if turn > now:
            self._sleep(turn - now)
