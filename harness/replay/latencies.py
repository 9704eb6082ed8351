"""Percentiles by nearest rank: exact while samples are few, from an HDR histogram once they are many."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable

from hdrh.histogram import HdrHistogram

from harness.replay.result import Bin, Percentiles

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
EXACT_UP_TO = 10_000
"""Number of samples up to which all are kept.  A histogram rounds the rank to the nearest sample, not up: for 99
samples its p99 is below the largest one.  For more samples the difference is negligible."""
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Bin bounds per decade: about equally wide on a logarithmic scale."""
_HIGHEST_MICROSECONDS = 24 * 3600 * 1_000_000


class Latencies:
    """A collection of latencies in seconds with bounded memory."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST_MICROSECONDS, 3)
        self._samples = array("d")
        self._highest = 0.0
        self.count = 0

    def record(self, seconds: float) -> None:
        """Add one sample."""
        self._histogram.record_value(max(1, round(seconds * 1e6)))
        if self.count < EXACT_UP_TO:
            self._samples.append(seconds)
        self._highest = max(self._highest, seconds) if self.count else seconds
        self.count += 1

    def summary(self) -> Percentiles | None:
        """Percentiles and maximum in seconds, None without samples."""
        if not self.count:
            return None
        at = self._from_histogram if self.count > EXACT_UP_TO else self._nearest_rank()
        return {name: at(percent) for name, percent in PERCENTILES.items()} | {"max": self._highest}

    def histogram(self) -> list[Bin]:
        """The distribution, from the first to the last non-empty bin."""
        counts: Counter[int] = Counter()
        buckets = self._histogram
        # Not by its iterator, which also computes the bounds of tens of thousands of empty buckets.
        for index, count in enumerate(buckets.counts):
            if count:
                # The upper bound of a bucket is up to 0.1 % above its samples.
                value = buckets.get_highest_equivalent_value(buckets.get_value_from_index(index))
                counts[_range_of(value / 1.001e6)] += count
        if not counts:
            return []
        return [Bin(_end_of(n - 1) if n else 0.0, _end_of(n), counts[n]) for n in range(min(counts), max(counts) + 1)]

    def _nearest_rank(self) -> Callable[[float], float]:
        """The smallest sample that at least `percent` percent of all samples do not exceed."""
        ordered = sorted(self._samples)
        # Rounding errors in percent times count must not increase the rank.
        return lambda percent: ordered[math.ceil(round(percent * len(ordered) / 100, 6)) - 1]

    def _from_histogram(self, percent: float) -> float:
        """The upper bound of a bucket, which may be above all samples."""
        return min(float(self._histogram.get_value_at_percentile(percent)) / 1e6, self._highest)


def _end_of(number: int) -> float:
    """The upper bound of a bin, in seconds; bin 0 ends at a microsecond."""
    power, step = divmod(number, len(STEPS))
    return round(STEPS[step] * 10.0 ** (power - 6), 7)


def _range_of(seconds: float) -> int:
    number = max(0, math.floor(math.log10(max(seconds, 1e-6)) + 6) * len(STEPS) - 1)
    while _end_of(number) < seconds * (1 - 1e-9):
        number += 1
    return number
