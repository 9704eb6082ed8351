"""The cost of a sync, fitted to one measured view, so that nodes differ only by the work that they do.

Views that share work cannot be timed individually, and a busy worker must not make its nodes appear slow.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds of a sync: `fixed`, plus `per_operation` for each element or rule that it changes."""

    fixed: float = 0.0
    per_operation: float = 0.0

    def seconds(self, operations: int) -> float:
        """The cost of a sync with this many operations."""
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
