"""Exact percentiles of latencies that are stored as counts, as many nodes have equal ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.replay.result import Percentiles

PERCENTILES = {"p50": 50.0, "p99": 99.0}
MICROSECONDS = 1e6


def summary(counts: Mapping[int, int]) -> Percentiles | None:
    """p50, p99 and maximum in seconds by nearest rank, from counts by microseconds; None without samples."""
    total = sum(counts.values())
    if not total:
        return None
    ordered = sorted(counts.items())
    found = {name: _at(ordered, math.ceil(round(percent * total / 100, 6))) for name, percent in PERCENTILES.items()}
    return found | {"max": ordered[-1][0] / MICROSECONDS}


def _at(ordered: list[tuple[int, int]], rank: int) -> float:
    below = 0
    for micros, count in ordered:
        below += count
        if below >= rank:
            return micros / MICROSECONDS
    raise AssertionError("the rank is at most the total")
