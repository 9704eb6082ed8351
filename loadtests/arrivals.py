"""When requests are due, whatever became of those before them: the open model. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random


def stream(rate: float, rng: Random, start_ns: int) -> Iterator[int]:
    """Times in nanoseconds of an even stream of `rate` a second from `start_ns` on, its phase by chance, for ever."""
    gap = 1e9 / rate
    first = start_ns + rng.random() * gap
    number = 0
    while True:
        yield round(first + number * gap)
        number += 1
