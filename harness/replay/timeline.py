"""The syncs of a replay over the recording's time, in a bounded number of intervals of equal length."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MOST_STRETCHES = 240
FIRST_STEP_SECONDS = 1.0


@dataclass
class TimelineInterval:
    """Totals and worst latencies of the syncs due in one interval, which begins at `at_seconds`."""

    at_seconds: float
    syncs: int = 0
    changes: int = 0
    operations: int = 0
    work_seconds: float = 0.0
    queue_seconds: float = 0.0
    convergence_seconds: float = 0.0

    def add(self, other: TimelineInterval) -> None:
        """Add another sync."""
        self.syncs += other.syncs
        self.changes += other.changes
        self.operations += other.operations
        self.work_seconds = max(self.work_seconds, other.work_seconds)
        self.queue_seconds = max(self.queue_seconds, other.queue_seconds)
        self.convergence_seconds = max(self.convergence_seconds, other.convergence_seconds)


class Timeline:
    """Intervals with at least one sync; their length doubles whenever there are too many."""

    def __init__(self, step_seconds: float = FIRST_STEP_SECONDS) -> None:
        self.step_seconds = step_seconds
        self._stretches: dict[int, TimelineInterval] = {}

    def add(self, sync: TimelineInterval) -> None:
        """Count one sync, which was due at `at_seconds`."""
        self._put(sync)
        while len(self._stretches) > MOST_STRETCHES:
            self.step_seconds *= 2
            before, self._stretches = self._stretches, {}
            for stretch in before.values():
                self._put(stretch)

    def _put(self, one: TimelineInterval) -> None:
        place = int(one.at_seconds // self.step_seconds)
        self._stretches.setdefault(place, TimelineInterval(place * self.step_seconds)).add(one)

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {
            "step_seconds": self.step_seconds,
            "stretches": [asdict(self._stretches[place]) for place in sorted(self._stretches)],
        }
