"""The samples of one proxy in one row, and the record in a row's file. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from harness.bench.rows import BenchRow

FIRST, CHANGE = "first_sync", "change"
CLOCKS = ("seconds", "cpu_seconds")
MEASURED = "measured"


class Sample(NamedTuple):
    """One first sync or change, identified by `at`, as for the baseline; `cpu_seconds` None if unknown."""

    at: tuple[int, int]
    seconds: float
    cpu_seconds: float | None


@dataclass
class Samples:
    """The measurements of one proxy; memory in bytes per start.

    `state` is `measured`, `not available` where the kernel lacks the mode, else what went wrong, with its `reason`.
    """

    first_sync: list[Sample] = field(default_factory=list)
    change: list[Sample] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    rules: int | None = None
    elements: int | None = None
    state: str = MEASURED
    reason: str = ""

    def of(self, figure: str) -> list[Sample]:
        """First syncs or changes."""
        return self.first_sync if figure == FIRST else self.change


@dataclass
class Record:
    """A measured row: `references` were measured at the same time, `took_seconds` is its whole duration."""

    row: BenchRow
    candidate: Samples
    baseline: Samples | None
    references: dict[str, dict[str, float]]
    took_seconds: float


def pairs(candidate: Samples, baseline: Samples, figure: str, clock: str) -> list[tuple[float, float]]:
    """Pairs (candidate, baseline) of the samples for which both values are known."""
    theirs = {sample.at: getattr(sample, clock) for sample in baseline.of(figure)}
    found = [(getattr(sample, clock), theirs.get(sample.at)) for sample in candidate.of(figure)]
    return [(ours, other) for ours, other in found if ours and other]
