"""The result of a run: what `harness bench --json` writes (docs/benchmarks.md).  Seconds, bytes."""

from __future__ import annotations

from msgspec import Struct

from harness.bench.samples import CHANGE, FIRST
from harness.replay.result import Bin, Percentiles, Verdict

FIGURES = (FIRST, CHANGE)
CHANGE_P99 = "change_p99"
"""A figure of pairs alone."""
COUNTS = ("peak_memory_bytes", "rules", "elements")


class BenchMachine(Struct, frozen=True):
    """The machine: `cpu` is the model, `load` that of the minute before."""

    cpu: str
    cpus: int
    memory_mib: int
    load: float


class FigureSummary(Struct, frozen=True):
    """Samples of one figure: min, p50, p99 and max by each clock, None if CPU times are not known.

    `relative` is the minimum over that of the references, by clock; None if they took no time.
    """

    count: int
    relative: dict[str, float | None]
    seconds: Percentiles
    cpu_seconds: Percentiles | None
    histogram: list[Bin]

    def by(self, clock: str) -> Percentiles | None:
        """The percentiles by one of CLOCKS."""
        return self.seconds if clock == "seconds" else self.cpu_seconds


class ProxyFigures(Struct, frozen=True, kw_only=True):
    """One proxy's figures; `state` is `measured`, or what went wrong, with its `reason`."""

    state: str
    reason: str
    first_sync: FigureSummary | None
    change: FigureSummary | None
    peak_memory_bytes: int | None
    rules: int | None
    elements: int | None


class Ratio(Struct, frozen=True):
    """Candidate to baseline, and the interval that holds the true ratio, None with too few pairs.

    `clock` is None for a count.
    """

    figure: str
    clock: str | None
    ratio: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def name(self) -> str:
        """`change.cpu_seconds`."""
        return f"{self.figure}.{self.clock}" if self.clock else self.figure


class RowResult(Struct, frozen=True, kw_only=True):
    """One row: the candidate's figures, those of the baseline, and their ratios."""

    id: str
    mode: str
    services: int
    endpoints: int
    churn: str
    proxy: str
    named: str | None
    state: str
    reason: str
    first_sync: FigureSummary | None
    change: FigureSummary | None
    peak_memory_bytes: int | None
    rules: int | None
    elements: int | None
    references: dict[str, dict[str, float]]
    took_seconds: float
    baseline: ProxyFigures | None
    ratios: list[Ratio]

    def of(self, figure: str) -> FigureSummary | None:
        """First syncs or changes."""
        return self.first_sync if figure == FIRST else self.change

    @property
    def counts(self) -> dict[str, int | None]:
        """The figures that are no times, by name."""
        return dict(zip(COUNTS, (self.peak_memory_bytes, self.rules, self.elements), strict=True))


class GrowthCurve(Struct, frozen=True):
    """A figure's exponent by the number of Services; `points` are (Services, figure)."""

    mode: str
    proxy: str
    churn: str
    endpoints: int
    figure: str
    exponent: float
    points: list[tuple[int, int | float]]


class HistoryStep(Struct, frozen=True):
    """A step of a figure in the history: relative figures before and after, and the first run after it."""

    row: str
    figure: str
    began: str
    commit: str | None
    before: float
    after: float
    ratio: float
    index: int


class GateFinding(Struct, frozen=True):
    """A figure that is over the limit; `red` if that is certain.

    `how` it was compared: pairs, saved, step or jump; `since` is the run of the history that it begins with.
    """

    row: str
    figure: str
    how: str
    ratio: float | None
    low: float | None
    high: float | None
    red: bool
    since: int | None = None


class Gate(Struct, frozen=True):
    """`passed` is unknown if nothing could be judged."""

    fail_on_percent: float
    judged: int
    passed: Verdict
    findings: list[GateFinding]


class BenchResult(Struct, frozen=True, kw_only=True):
    """All rows of a run; `baseline` is in words, `gate` None without a limit."""

    profile: str
    began: str
    seconds: float
    machine: BenchMachine
    kernel: str
    tools: dict[str, str]
    commit: str | None
    baseline: str | None
    rows: list[RowResult]
    growth: list[GrowthCurve]
    steps: list[HistoryStep]
    gate: Gate | None
