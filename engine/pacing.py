"""When to sync: pure, told the time by its caller (SYNC-02, SYNC-03, the runner of Kubernetes 1.34 on).

    idle --request--> due --started--> running --ended(ok)--> idle, not due again for `min_seconds`
                                          `------ended(failed)--> due again within `retry_seconds`

However many requests arrive, one run serves them all; one that arrives during a run asks for another.
A full run is due `full_seconds` after the last one ended, and after a failure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

FULL_SYNC_SECONDS = 3600.0


@dataclass
class Pacer:
    """Times are seconds on the caller's own clock, which must never go back.

    Nothing is due before `open` (SYNC-01), however much was requested.
    """

    min_seconds: float
    retry_seconds: float
    full_seconds: float = FULL_SYNC_SECONDS
    opened: bool = field(default=False, init=False)
    requested_at: float | None = field(default=None, init=False)
    """Since when a request waits for a run that succeeds."""
    running: bool = field(default=False, init=False)
    _wanted: bool = field(default=False, init=False)
    _full: bool = field(default=True, init=False)
    _earliest: float = field(default=-inf, init=False)
    _retry_at: float = field(default=inf, init=False)
    _full_at: float = field(default=inf, init=False)
    _before_run: float | None = field(default=None, init=False)

    def open(self, now: float) -> None:
        """Everything needed for a first run is there: it is due at once."""
        self.opened = True
        self.request(now)

    def request(self, now: float, full: bool = False) -> None:
        """Something changed; `full` when the whole kernel state is in doubt."""
        self._wanted = True
        self._full |= full
        if self.requested_at is None:
            self.requested_at = now

    def due(self) -> float:
        """When the next run is due, in the past when it is late; infinite when nothing asks for one."""
        if not self.opened or self.running:
            return inf
        wanted = -inf if self._wanted else min(self._retry_at, self._full_at)
        return max(wanted, self._earliest)

    def started(self, now: float) -> bool:
        """A run begins and takes along everything requested so far; whether it must be a full one."""
        full = self._full or now >= self._full_at
        self._wanted = self._full = False
        self._retry_at = inf
        self.running = True
        self._before_run, self.requested_at = self.requested_at, None
        return full

    def ended(self, now: float, ok: bool, full: bool) -> None:
        """The run is over: the next one waits `min_seconds` from now on, and after a failure is full."""
        self.running = False
        self._earliest = now + self.min_seconds
        if not ok:
            self.requested_at = min((t for t in (self._before_run, self.requested_at) if t is not None), default=now)
            self._full = True
            self._retry_at = now + self.retry_seconds
        elif full:
            self._full_at = now + self.full_seconds
