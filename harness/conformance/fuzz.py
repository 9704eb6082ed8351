"""Runs random clusters, and reduces failing ones.

Cluster N of seed S is cluster 1 of seed S + N - 1, so a single failure can be repeated by its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from harness.conformance.entry import Entry
from harness.conformance.random_clusters import Asked, entry, packets_of, random_history
from harness.conformance.run import HOPELESS, ProxyUnderTest, not_tried
from harness.conformance.testbed import CaseResult, Testbed
from harness.log.events import Event
from harness.shrink.reduction import Path, reduced

MOST_TRIES = 100
"""Runs for one failure: the search is deterministic, but not endless."""
MOST_REDUCED = 5
"""Maximum number of failures to reduce; enough for a proxy that always fails."""
OPTIONAL = frozenset((
    "externalIPs", "loadBalancerSourceRanges", "internalTrafficPolicy", "externalTrafficPolicy",
    "conditions", "hints", "nodeName",
))  # fmt: skip
"""Fields that a valid object may lack."""
Say = Callable[[str], None]


def fuzz(
    target: ProxyUnderTest,
    count: int,
    seed: int,
    done: Callable[[int], None] = lambda _: None,
    say: Say = lambda _: None,
) -> list[CaseResult]:
    """One result per cluster; may raise Unavailable.  `done` is called with their number, `say` with other progress."""
    results: list[CaseResult] = []
    lost = failed = 0
    with Testbed(target.command, target.mode, _entry(target, seed, []).case, target.variant) as testbed:
        for each in range(seed, seed + count):
            events = random_history(each)
            tried = _entry(target, each, events)
            if lost >= HOPELESS:
                results.append(not_tried(tried, f"the proxy followed nothing in {HOPELESS} clusters in a row"))
                continue
            result = _run(testbed, tried)
            lost = lost + 1 if _unfollowed(result) else 0
            if result.failures and testbed.followed and failed < MOST_REDUCED:
                failed += 1
                result = _Reduction(target, testbed, each, result, say).of(events)
            results.append(result)
            say("")
            done(len(results))
    return results


def _entry(target: ProxyUnderTest, seed: int, events: Sequence[Event], only: set[Asked] | None = None) -> Entry:
    return entry(target.mode, target.version, seed, events, only)


def _run(testbed: Testbed, tried: Entry) -> CaseResult:
    """Restart a proxy that is stuck, as it would fail with any input."""
    result = testbed.run(tried)
    if _unfollowed(result):
        testbed.stop()
    return result


def _unfollowed(result: CaseResult) -> bool:
    """Whether the proxy has ended, or has not applied a change."""
    return any(not failure.packet for failure in result.failures)


class _Reduction:
    """Reduce one failure: remove Services, objects, events and fields while one of the same packets still fails.

    If the proxy ended or stopped applying changes, it must do so again.
    """

    def __init__(self, target: ProxyUnderTest, testbed: Testbed, seed: int, found: CaseResult, say: Say) -> None:
        self._target, self._testbed, self._seed, self._found, self._say = target, testbed, seed, found, say
        words = {failure.packet for failure in found.failures if failure.packet}
        self._unfollowed = _unfollowed(found)
        self._only = None if self._unfollowed else packets_of(found.entry, words)
        self._known: dict[bytes, bool] = {}

    def of(self, events: list[Event]) -> CaseResult:
        if not self._holds(events):
            self._found.events, self._found.why = [], "it did not fail like this when it was run again"
            return self._found
        least = reduced(events, self._holds, lambda _what, _count: None, _removable)
        self._found.events, self._found.why = least, f"{len(least)} of {len(events)} events show it"
        return self._found

    def _holds(self, events: Sequence[Event]) -> bool:
        key = msgspec.json.encode(events)
        if key not in self._known and len(self._known) < MOST_TRIES:
            self._known[key] = self._tried(events)
            self._say(f"reducing the failure of seed {self._seed}: run {len(self._known)}")
        return self._known.get(key, False)

    def _tried(self, events: Sequence[Event]) -> bool:
        result = _run(self._testbed, _entry(self._target, self._seed, events, self._only))
        if _unfollowed(result) != self._unfollowed or not result.failures:
            return False
        self._found = result
        return True


def _removable(path: Path) -> bool:
    """Paths of endpoints and optional fields; an API server would reject an object without the others."""
    return path[-1] in OPTIONAL or (len(path) == 2 and path[0] == "endpoints")
