"""Intervals, exponents and steps: against definitions, and against series with a known answer."""

from __future__ import annotations

import math
import random
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bench.statistics import exponent, median_interval, nearest_rank, tail_interval
from harness.bench.steps import SHORTEST, best_cut, steps


def test_the_interval_of_a_median_follows_the_binomial_distribution():
    for count in (8, 20, 101):
        interval = median_interval(range(count))
        outside = sum(math.comb(count, k) for k in range(int(interval.low) + 1)) / 2**count
        assert outside <= 0.005 < outside + math.comb(count, int(interval.low) + 1) / 2**count
        assert interval.low + interval.high == count - 1 and interval.pairs == count
    assert median_interval(range(7)) == (3, None, None, 7)


def test_a_percentile_is_a_sample():
    assert [nearest_rank([3, 1, 2, 4], percent) for percent in (1, 50, 51, 99)] == [1, 2, 3, 4]


def turns(seed: int, count: int = 640, slower: float = 1.0, every: int = 1) -> list[tuple[float, float]]:
    """Pairs on a busy machine, where one in thirty takes many times as long; every so many are slower by a factor."""
    draw = random.Random(seed)

    def seconds() -> float:
        return math.exp(draw.gauss(0, 0.1)) * (draw.uniform(2, 40) if draw.random() < 1 / 30 else 1.0)

    return [(seconds() * (1.0 if n % every else slower), seconds()) for n in range(count)]


def test_the_interval_of_a_tail_scales_and_can_be_inverted():
    pairs = turns(1)
    found = tail_interval(pairs)
    assert found.low < found.ratio < found.high and found.pairs == 640
    scaled = tail_interval([(3 * ours, theirs) for ours, theirs in pairs])
    assert scaled[:3] == pytest.approx([3 * value for value in found[:3]])
    inverse = tail_interval([(theirs, ours) for ours, theirs in pairs])
    assert (1 / inverse.high, 1 / inverse.low) == pytest.approx((found.low, found.high))


def test_a_tail_interval_needs_enough_pairs():
    assert 2**-11 < 0.0005 < 2**-10
    assert tail_interval(turns(1, 549))[1:] == (None, None, 549)
    assert tail_interval(turns(1, 550)).low is not None


def test_noise_is_not_a_longer_tail():
    assert [seed for seed in range(60) if tail_interval(turns(seed)).low > 1] == []


def test_a_longer_tail_is_found_where_the_median_is_the_same():
    for seed in range(10):
        pairs = turns(seed, slower=60.0, every=25)
        assert tail_interval(pairs).low > 1.1
        assert median_interval([ours / theirs for ours, theirs in pairs]).low < 1.1


def test_exponents():
    assert exponent([(size, 7 * size**1.5) for size in (10, 100, 1000)]) == pytest.approx(1.5)
    assert exponent([(10, 4.0), (10, 5.0)]) is None


def energy(left: list[float], right: list[float]) -> float:
    """As in Matteson and James, equation 5."""
    between = fmean(abs(a - b) for a in left for b in right)
    within = sum(fmean(abs(a - b) for a, b in combinations(side, 2)) for side in (left, right))
    return len(left) * len(right) / (len(left) + len(right)) * (2 * between - within)


@given(st.lists(st.floats(0, 10), min_size=2 * SHORTEST, max_size=12))
def test_a_series_is_split_where_the_energy_distance_is_largest(values):
    cuts = range(SHORTEST, len(values) - SHORTEST + 1)
    assert best_cut(values)[0] == pytest.approx(max(0.0, *(energy(values[:n], values[n:]) for n in cuts)), abs=1e-6)


def nights(seed: int, *parts: tuple[int, float]) -> list[float]:
    draw = random.Random(seed)
    return [level * math.exp(draw.gauss(0, 0.04)) for count, level in parts for _ in range(count)]


def test_steps_are_found_where_they_are():
    up_and_down = nights(1, (20, 1.0), (15, 1.2), (12, 0.9))
    assert [(step.at, round(step.ratio, 1)) for step in steps(up_and_down)] == [(20, 1.2), (35, 0.7)]
    assert steps(up_and_down) == steps(up_and_down)


def test_noise_has_no_steps():
    assert sum(bool(steps(nights(seed, (40, 1.0)))) for seed in range(25)) == 0


def test_a_step_of_a_fifth_is_found_within_four_nights():
    assert all(steps(nights(seed, (30, 1.0), (4, 1.2))) for seed in range(5))
