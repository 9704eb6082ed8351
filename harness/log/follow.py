"""Following a source that still grows: when to wait, when to stop, and how idle time becomes an event.

A follower must close a batch although no later event has come yet.  A tick says that the recording's
clock has passed `t` for certain: it counts from when the last event was read, less `LATE_NS` for what a
recorder may still be holding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.events import TICK, Event

LATE_NS = 2_000_000_000


def _a_while() -> bool:
    time.sleep(0.1)
    return True


@dataclass
class Follow:
    """`wait` blocks until there may be more and says whether to go on; it must return now and then."""

    wait: Callable[[], bool] = _a_while
    ticks: bool = False
    clock: Callable[[], int] = time.monotonic_ns
    _last: Event | None = None
    _read_at: int = 0
    _told: int = 0

    def saw(self, event: Event) -> None:
        """The event was read just now."""
        self._last, self._read_at, self._told = event, self.clock(), event.t

    def tick(self) -> Event | None:
        """What time it is for certain, after a wait; None unless ticks are wanted."""
        if not self.ticks or self._last is None:
            return None
        self._told = max(self._told, self._last.t + self.clock() - self._read_at - LATE_NS)
        return Event(self._last.seq, self._told, TICK, self._last.resource)
