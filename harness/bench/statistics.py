"""Percentiles, intervals that assume no distribution, and exponents of growth. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.99


class Interval(NamedTuple):
    """A median, and the interval that holds the true one with the confidence; None where there are too few values."""

    median: float
    low: float | None
    high: float | None
    pairs: int


def nearest_rank(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` percent of all do not exceed; ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(round(percent * len(ordered) / 100, 6)) - 1)]


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """By order statistics, which follow the binomial distribution whatever the values' distribution is.

    99 % need 8 values.  (W. J. Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2.)
    """
    ordered, count = sorted(values), len(values)
    rank = _rank(count, (1 - confidence) / 2)
    median = statistics.median(ordered)
    if not rank:
        return Interval(median, None, None, count)
    return Interval(median, ordered[rank - 1], ordered[count - rank], count)


def _rank(count: int, tail: float) -> int:
    """The largest k for which fewer than k of `count` fair coins show heads with at most probability `tail`."""
    below, k = 0.0, 0
    while k < count // 2:
        below += math.exp(
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
        )
        if below > tail:
            break
        k += 1
    return k


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of log(value) over log(size) by least squares: 1 is linear growth.  None below two sizes."""
    known = [(math.log(size), math.log(value)) for size, value in points if size > 0 and value > 0]
    if len({x for x, _ in known}) < 2:
        return None
    return statistics.linear_regression([x for x, _ in known], [y for _, y in known]).slope
