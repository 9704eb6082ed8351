"""The syncs of a replay over the recording's time, in a bounded number of intervals of equal length."""

from __future__ import annotations

from harness.replay.result import Timeline, TimelineInterval

MOST_STRETCHES = 240
FIRST_STEP_SECONDS = 1.0


class Intervals:
    """Intervals with at least one sync; their length doubles whenever there are too many."""

    def __init__(self, step_seconds: float = FIRST_STEP_SECONDS) -> None:
        self._step_seconds = step_seconds
        self._stretches: dict[int, TimelineInterval] = {}

    def add(self, sync: TimelineInterval) -> None:
        """Count one sync, which was due at `at_seconds`."""
        self._put(sync)
        while len(self._stretches) > MOST_STRETCHES:
            self._step_seconds *= 2
            before, self._stretches = self._stretches, {}
            for stretch in before.values():
                self._put(stretch)

    def _put(self, one: TimelineInterval) -> None:
        place = int(one.at_seconds // self._step_seconds)
        into = self._stretches.setdefault(place, TimelineInterval(place * self._step_seconds))
        into.syncs += one.syncs
        into.changes += one.changes
        into.operations += one.operations
        into.work_seconds = max(into.work_seconds, one.work_seconds)
        into.queue_seconds = max(into.queue_seconds, one.queue_seconds)
        into.convergence_seconds = max(into.convergence_seconds, one.convergence_seconds)

    def timeline(self) -> Timeline:
        """The intervals in order of time."""
        return Timeline(self._step_seconds, [self._stretches[place] for place in sorted(self._stretches)])
