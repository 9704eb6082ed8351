"""When to sync: pure, the caller passes the time (SYNC-02, SYNC-03, as the runner since Kubernetes 1.34).

    idle --request--> due --started--> running --ended(ok)--> idle, not due again for `min_seconds`
                                          `------ended(failed)--> due again after 1 s, 2 s, 4 s ... `retry_seconds`

One run serves all requests made before it; a request during a run causes another one.  A full run is due `full_seconds`
after the last one ended, and after a failure.  While runs fail, requests do not make the next one due earlier:
repeated full writes would only delay the other family.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

FULL_SYNC_SECONDS = 3600.0
FIRST_RETRY_SECONDS = 1.0
_DOUBLINGS_AT_MOST = 20


@dataclass
class Pacer:
    """Times are seconds on the caller's clock, which must be monotonic.

    Nothing is due before `open` (SYNC-01), whatever was requested.
    """

    min_seconds: float
    retry_seconds: float
    full_seconds: float = FULL_SYNC_SECONDS
    opened: bool = field(default=False, init=False)
    requested_at: float | None = field(default=None, init=False)
    """Time of the oldest request not yet served by a successful run."""
    running: bool = field(default=False, init=False)
    _wanted: bool = field(default=False, init=False)
    _full: bool = field(default=True, init=False)
    _earliest: float = field(default=-inf, init=False)
    _retry_at: float = field(default=inf, init=False)
    _full_at: float = field(default=inf, init=False)
    _before_run: float | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    def open(self, now: float) -> None:
        """Everything needed for the first run is available: it is due at once."""
        self.opened = True
        self.request(now)

    def request(self, now: float, full: bool = False) -> None:
        """Something changed; `full` if the whole kernel state is unknown."""
        self._wanted = True
        self._full |= full
        if self.requested_at is None:
            self.requested_at = now

    def due(self) -> float:
        """When the next run is due, in the past if it is late; infinite if none is needed."""
        if not self.opened or self.running:
            return inf
        wanted = -inf if self._wanted else min(self._retry_at, self._full_at)
        return max(wanted, self._earliest)

    def started(self, now: float) -> bool:
        """A run begins, which serves all requests so far; returns whether it must be a full one."""
        full = self._full or now >= self._full_at
        self._wanted = self._full = False
        self._retry_at = inf
        self.running = True
        self._before_run, self.requested_at = self.requested_at, None
        return full

    def ended(self, now: float, ok: bool, full: bool) -> None:
        """The run has ended: the next one waits `min_seconds`, or after failures longer, and is then a full one."""
        self.running = False
        self._earliest = now + self.min_seconds
        self._failures = 0 if ok else self._failures + 1
        if not ok:
            self.requested_at = min((t for t in (self._before_run, self.requested_at) if t is not None), default=now)
            self._full = True
            backoff = FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, _DOUBLINGS_AT_MOST)
            self._retry_at = self._earliest = now + max(self.min_seconds, min(backoff, self.retry_seconds))
        elif full:
            self._full_at = now + self.full_seconds
