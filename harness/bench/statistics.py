"""Percentiles, distribution-free intervals, and exponents of growth. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.99
TAIL, TAIL_CONFIDENCE = 99, 0.999
"""A tail's percentile and its confidence level: higher, since noise makes tails longer than any limit of a gate."""
_HALVINGS = 60


class Interval(NamedTuple):
    """A ratio, and the interval that holds the true one with the confidence; None where there are too few pairs."""

    ratio: float
    low: float | None
    high: float | None
    pairs: int


def nearest_rank(values: Sequence[float], percent: float) -> float:
    """The percentile by the nearest-rank method; ValueError without values."""
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
    """The largest k such that fewer than k of `count` fair coins show heads with a probability of at most `tail`."""
    below, k = 0.0, 0
    while k < count // 2:
        below += math.exp(
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
        )
        if below > tail:
            break
        k += 1
    return k


def tail_interval(pairs: Sequence[tuple[float, float]]) -> Interval:
    """The ratio of both sides' p99: (candidate, baseline) of the same changes, measured alternately.

    If the candidate's tail is no longer than FACTOR times the baseline's, then of the largest hundredth of all values,
    the baseline's times FACTOR, the candidate has no more than half, among pairs of which only one is in it: McNemar's
    exact test (Q. McNemar, Psychometrika 12, 1947).  The interval has the factors that this does not rule out.  It
    assumes no distribution; 99.9 % need 550 pairs.
    """
    ratio = nearest_rank([ours for ours, _ in pairs], TAIL) / nearest_rank([theirs for _, theirs in pairs], TAIL)
    low, inverse = _least_factor(pairs), _least_factor([(theirs, ours) for ours, theirs in pairs])
    return Interval(ratio, low, 1 / inverse if inverse else None, len(pairs))


def _least_factor(pairs: Sequence[tuple[float, float]]) -> float | None:
    """The smallest factor that is not ruled out from below, by halving; None if there are too few pairs for any."""
    low = min(ours for ours, _ in pairs) / max(theirs for _, theirs in pairs) / 2
    high = max(ours for ours, _ in pairs) / min(theirs for _, theirs in pairs)
    if not _longer(pairs, low):
        return None
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _longer(pairs, middle) else (low, middle)
    return low


def _longer(pairs: Sequence[tuple[float, float]], factor: float) -> bool:
    """Whether the candidate's tail is longer than `factor` times the baseline's, beyond doubt."""
    scaled = [(ours, theirs * factor) for ours, theirs in pairs]
    limit = nearest_rank([value for pair in scaled for value in pair], TAIL)
    longer = sum(ours > limit >= theirs for ours, theirs in scaled)
    shorter = sum(theirs > limit >= ours for ours, theirs in scaled)
    return _rank(longer + shorter, (1 - TAIL_CONFIDENCE) / 2) > shorter


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of log(value) over log(size) by least squares: 1 is linear growth.  None below two sizes."""
    known = [(math.log(size), math.log(value)) for size, value in points if size > 0 and value > 0]
    if len({x for x, _ in known}) < 2:
        return None
    return statistics.linear_regression([x for x, _ in known], [y for _, y in known]).slope
