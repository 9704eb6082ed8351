"""Tests the distribution over endpoints: Pearson's chi-square test on counts of new connections. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

FALSE_ALARM = 1e-4
"""Probability that a test rejects an even distribution.  A failed test is repeated and has to fail again, so that
the false positive rate is one in a hundred million tests."""
DRAWS_AN_ENDPOINT, DRAWS_AT_LEAST = 90, 400
"""Connections per test: one endpoint of n with twice its share is found with a probability above 99 percent."""


def draws(endpoints: int) -> int:
    """The number of connections for a test of `endpoints` endpoints."""
    return max(DRAWS_AT_LEAST, DRAWS_AN_ENDPOINT * endpoints)


def chance(counts: Sequence[int]) -> float:
    """The p-value of the counts under an even distribution; 1.0 for a single endpoint."""
    share = sum(counts) / len(counts)
    if len(counts) < 2 or not share:
        return 1.0
    statistic = sum((count - share) ** 2 / share for count in counts)
    return tail(statistic, len(counts) - 1)


def tail(statistic: float, freedom: int) -> float:
    """The chi-square distribution's upper tail, the regularized gamma function Q(freedom / 2, statistic / 2)."""
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    factor = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1 - factor * _series(a, x) if x < a + 1 else factor * _fraction(a, x)


def _series(a: float, x: float) -> float:
    """The lower function's power series, without its factor."""
    term = total = 1 / a
    for step in range(1, 1000):
        term *= x / (a + step)
        total += term
        if term < total * 1e-15:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """The upper function's continued fraction by Lentz's method, without its factor."""
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    found = d
    for step in range(1, 1000):
        by = -step * (step - a)
        b += 2
        d = 1 / ((by * d + b) or tiny)
        c = (b + by / c) or tiny
        found *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return found
