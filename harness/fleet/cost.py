"""What a sync costs a node: fitted to one view that was measured in this run, so that nodes differ by their work only.

Views that share their work cannot be timed one by one, and a busy worker must not make its nodes look slow.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds of a sync: `fixed`, and `per_operation` for each element or rule that it changes."""

    fixed: float = 0.0
    per_operation: float = 0.0

    def seconds(self, operations: int) -> float:
        """Of a sync with this many operations."""
        return self.fixed + self.per_operation * operations


def fitted(operations: Sequence[int], seconds: Sequence[float]) -> Cost:
    """By least squares over the syncs of a measured view; neither part is below 0."""
    if not operations:
        return Cost()
    if len(set(operations)) < 2:
        return Cost(statistics.fmean(seconds))
    slope, intercept = statistics.linear_regression(operations, seconds)
    if slope < 0:
        return Cost(statistics.fmean(seconds))
    if intercept < 0:
        return Cost(0.0, sum(seconds) / max(1, sum(operations)))
    return Cost(intercept, slope)
