"""The rows as tests of pytest-benchmark, with the clock of the measured process (see `run`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from harness.bench.rows import BenchRow
from harness.bench.samples import CHANGE, FIRST, MEASURED, Record, Samples


class SampleClock:
    """Advances only by the samples' durations, so that pytest-benchmark's rounds are the samples."""

    def __init__(self) -> None:
        self.now = 0.0

    def play(self, seconds: Iterable[float]) -> Callable[[], None]:
        """A function that advances the clock by one sample per call."""
        left = iter(seconds)

        def sample() -> None:
            self.now += next(left)

        return sample


CLOCK = SampleClock()


def clock() -> float:
    """The time in seconds."""
    return CLOCK.now


@pytest.mark.benchmark(timer=clock, group="first sync")
def test_first_sync(benchmark: Any, record: Record) -> None:
    """From the start until all rules are live."""
    _show(benchmark, record, FIRST)


@pytest.mark.benchmark(timer=clock, group="change")
def test_change(benchmark: Any, record: Record) -> None:
    """From an event until its rules are live."""
    _show(benchmark, record, CHANGE)


def _show(benchmark: Any, record: Record, figure: str) -> None:
    samples = record.candidate
    if not samples.of(figure):
        pytest.skip(samples.reason or f"{record.row.churn} has none")
    if samples.state != MEASURED:
        benchmark.extra_info["state"] = f"{samples.state}: {samples.reason}"
    seconds = [sample.seconds for sample in samples.of(figure)]
    benchmark.pedantic(CLOCK.play(seconds), rounds=len(seconds))
    benchmark.extra_info.update(_more(record.row, samples, figure), references=record.references)
    if record.baseline:
        benchmark.extra_info["baseline_seconds"] = [sample.seconds for sample in record.baseline.of(figure)]


def _more(row: BenchRow, samples: Samples, figure: str) -> dict[str, object]:
    return {
        "mode": row.mode, "services": row.services, "endpoints": row.endpoints, "churn": row.churn, "proxy": row.proxy,
        "cpu_seconds": [sample.cpu_seconds for sample in samples.of(figure)],
        "peak_memory_bytes": max(samples.memory, default=None), "rules": samples.rules, "elements": samples.elements,
    }  # fmt: skip
