"""Decides a watcher's next step by the outcome of each request.  Pure: clock and random numbers are arguments.

    outcome       meaning                                     next    wait     marked as
    LISTED        all pages of a list were received           watch   -        -
    ENDED         the server closed the watch at its timeout  watch   -        -
    BROKEN        the connection broke                        watch   backoff  -
    BUSY          status 429                                  watch   backoff  -
    EXPIRED       status 410, or the version decreased        list    -        GAP, RELIST
    AWAY          no answer, or 5xx: it may have restarted    list    backoff  GAP, RELIST
    DENIED        status 401 or 403                           list    backoff  GAP, RELIST

A watch resumed from its resourceVersion misses nothing, so nothing is marked; every informer relies on that.  A
restored backup is detected: etcd's revision decreased, or, if it was bumped as etcdutl recommends, the known version
is compacted (410).  A server that was unavailable may have lost its state, or be another one: only a new list is
reliable, and events in between may have been missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

FIRST_SECONDS, MOST_SECONDS = 0.2, 30.0


class WatchOutcome(Enum):
    """How a list or watch ended."""

    LISTED = "listed"
    ENDED = "ended"
    BROKEN = "broken"
    BUSY = "busy"
    EXPIRED = "expired"
    AWAY = "away"
    DENIED = "denied"


class RecoveryRule(NamedTuple):
    """One row of the table."""

    relist: bool
    wait: bool


TABLE = {
    WatchOutcome.LISTED: RecoveryRule(relist=False, wait=False),
    WatchOutcome.ENDED: RecoveryRule(relist=False, wait=False),
    WatchOutcome.BROKEN: RecoveryRule(relist=False, wait=True),
    WatchOutcome.BUSY: RecoveryRule(relist=False, wait=True),
    WatchOutcome.EXPIRED: RecoveryRule(relist=True, wait=False),
    WatchOutcome.AWAY: RecoveryRule(relist=True, wait=True),
    WatchOutcome.DENIED: RecoveryRule(relist=True, wait=True),
}


class RecoveryStep(NamedTuple):
    """What to do after `wait_seconds`: list again, because of `gap`, or continue watching (None)."""

    gap: str | None
    wait_seconds: float


@dataclass
class Recovery:
    """One watcher's state: how often it failed in a row, and whether it must list again.

    `chance` returns numbers from 0 to 1 for the jitter of waits, so that many recorders do not reconnect at once.
    """

    chance: Callable[[], float]
    failures: int = 0
    gap: str | None = None

    def after(self, outcome: WatchOutcome, reason: str = "", progress: bool = False) -> RecoveryStep:
        """`progress`: events arrived before the end, or it lasted long; so the server is healthy."""
        if outcome is WatchOutcome.LISTED:
            self.gap = None
            return RecoveryStep(None, 0.0)
        rule = TABLE[outcome]
        if rule.relist:
            self.gap = self.gap or reason or outcome.value
        self.failures = (0 if progress else self.failures) + 1
        # Even outcomes without a wait get one if repeated: a server may expire every watch as it begins.
        return RecoveryStep(self.gap, self._pause(self.failures if rule.wait else self.failures - 1))

    def _pause(self, tries: int) -> float:
        if tries <= 0:
            return 0.0
        longest = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(tries - 1, 16))
        return float(longest * (0.5 + self.chance() / 2))
