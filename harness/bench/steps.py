"""Steps in a series of nightly figures: E-divisive means, with permutation tests. Pure and deterministic.

David Matteson and Nicholas James, "A nonparametric approach for multiple change point analysis of multivariate data",
Journal of the American Statistical Association 109 (2014); for nightly benchmarks: David Daly et al., "The use of
change point detection to identify software performance regressions in a continuous integration system", ICPE 2020.

A series is divided where the energy distance between the two parts is largest, if a larger one is rare among random
orders of the same values; then each part likewise.  Distances are those of logarithms, so that a step is a ratio.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

PERMUTATIONS, SIGNIFICANT = 399, 0.01
"""Number of permutations per test, and the significance level."""
SHORTEST = 3
"""Minimum number of values between two steps."""
LONGEST = 120
"""Number of newest values of a series that are examined."""


class SeriesStep(NamedTuple):
    """The series changes before the value at `at`, from one median to the other."""

    at: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """The ratio of the medians: 1.2 for 20 % more."""
        return self.after / self.before


def steps(values: Sequence[float], seed: int = 1) -> list[SeriesStep]:
    """All significant steps, in order; values must be positive."""
    return list(_steps(tuple(values), seed))


@lru_cache(maxsize=4096)
def _steps(values: tuple[float, ...], seed: int) -> tuple[SeriesStep, ...]:
    start = max(0, len(values) - LONGEST)
    logs = [math.log(value) for value in values[start:]]
    cuts = [0, *sorted(_divided(logs, 0, len(logs), random.Random(seed))), len(logs)]
    medians = [statistics.median(values[start + a : start + b]) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]
    return tuple(SeriesStep(start + cut, medians[n], medians[n + 1]) for n, cut in enumerate(cuts[1:-1]))


def _divided(logs: Sequence[float], start: int, end: int, draw: random.Random) -> list[int]:
    part = list(logs[start:end])
    statistic, cut = best_cut(part)
    if not cut or not _significant(part, statistic, draw):
        return []
    middle = start + cut
    return [*_divided(logs, start, middle, draw), middle, *_divided(logs, middle, end, draw)]


def _significant(part: list[float], statistic: float, draw: random.Random) -> bool:
    """Ends early once too many permutations reach the statistic."""
    allowed = int(SIGNIFICANT * (PERMUTATIONS + 1)) - 1
    order = list(part)
    for _ in range(PERMUTATIONS):
        draw.shuffle(order)
        allowed -= best_cut(order)[0] >= statistic
        if allowed < 0:
            return False
    return True


def best_cut(part: Sequence[float]) -> tuple[float, int]:
    """The largest scaled energy statistic and where it is; (0, 0) if the part is too short.

    Of the sums of distances within and between the two sides only those of the value that changes sides are new.
    """
    count = len(part)
    if count < 2 * SHORTEST:
        return 0.0, 0
    left, right, between = 0.0, sum(abs(a - b) for n, a in enumerate(part) for b in part[:n]), 0.0
    best, place = 0.0, 0
    for cut in range(1, count - SHORTEST + 1):
        moved = part[cut - 1]
        to_left = sum(abs(moved - each) for each in part[: cut - 1])
        to_right = sum(abs(moved - each) for each in part[cut:])
        left, right, between = left + to_left, right - to_right, between + to_right - to_left
        if cut >= SHORTEST and (found := _energy(left, right, between, cut, count - cut)) > best:
            best, place = found, cut
    return best, place


def _energy(left: float, right: float, between: float, n: int, m: int) -> float:
    within = left / (n * (n - 1) / 2) + right / (m * (m - 1) / 2)
    return n * m / (n + m) * (2 * between / (n * m) - within)
