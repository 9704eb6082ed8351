"""Following a source that still grows: when to wait, when to stop, and how idle time becomes an event.

A follower must close a batch even if no later event has arrived.  A tick means that the recording's clock has
certainly passed `t`: it counts from the time the last event was read, minus `LATE_NS` for events that a recorder may
still be buffering.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.log.events import TICK, Event

LATE_NS = 2_000_000_000

WAITED = b""
"""Marks a pause among the lines of a followed source."""


def _a_while() -> bool:
    time.sleep(0.1)
    return True


@dataclass
class Follow:
    """`wait` blocks until there may be more, and returns whether to continue; it must return periodically."""

    wait: Callable[[], bool] = _a_while
    ticks: bool = False
    clock: Callable[[], int] = time.monotonic_ns
    _last: Event | None = None
    _read_at: int = 0
    _told: int = 0

    def saw(self, event: Event) -> None:
        """Record that the event was just read."""
        self._last, self._read_at, self._told = event, self.clock(), event.t

    def tick(self) -> Event | None:
        """The time that has certainly passed, after a wait; None unless ticks are requested."""
        if not self.ticks or self._last is None:
            return None
        self._told = max(self._told, self._last.t + self.clock() - self._read_at - LATE_NS)
        return Event(self._last.seq, self._told, TICK, self._last.resource)
