"""Maps values to positions in a chart. Pure; every position lies within the range, whatever the value."""

from __future__ import annotations

import math
from typing import NamedTuple

TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


class Scale(NamedTuple):
    """`least` is drawn at `start`, `most` at `end`; with `log`, the scale is logarithmic."""

    least: float
    most: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value; values outside the range are drawn at the edge."""
        low, high, here = (self._bent(v) for v in (self.least, self.most, value))
        share = (here - low) / (high - low) if high > low else 0.0
        if math.isnan(share):
            share = 0.0
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))

    def _bent(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.log else value


def upper(value: float) -> float:
    """The next round number: 1, 2, 2.5 or 5 times a power of ten, at least 1."""
    if not math.isfinite(value) or value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= value * (1 - 1e-9))


def decades(least: float, most: float) -> list[float]:
    """The powers of ten from at or below `least` to at or above `most`, at least two."""
    low = math.floor(math.log10(max(least, 1e-9)) + 1e-9)
    high = max(low + 1, math.ceil(math.log10(max(most, 1e-9)) - 1e-9))
    return [10.0**power for power in range(low, high + 1)]


def log_ticks(least: float, most: float) -> list[float]:
    """The powers of ten between two values, with 2 and 5 times each where that would be fewer than three."""
    powers = decades(least, most)
    factors = (1, 2, 5) if sum(least <= power <= most for power in powers) < 3 else (1,)
    return [tick for power in powers for factor in factors if least <= (tick := factor * power) <= most]


def time_ticks(least: float, most: float, count: int) -> list[float]:
    """Round times from `least` to `most`, at most `count` + 1."""
    longest = TIME_STEPS[-1]
    many_days = longest * math.ceil((most - least) / longest / count)
    step = next((step for step in TIME_STEPS if (most - least) / step <= count), many_days)
    first = math.ceil(least / step - 1e-9)
    return [round(n * step, 6) for n in range(first, math.floor(most / step + 1e-9) + 1)]
