"""The result of a run, from its records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.bench.facts import BenchFacts
from harness.bench.references import unit
from harness.bench.result import (
    CHANGE_P99,
    COUNTS,
    FIGURES,
    BenchResult,
    FigureSummary,
    GrowthCurve,
    ProxyFigures,
    Ratio,
    RowResult,
)
from harness.bench.samples import CHANGE, CLOCKS, FIRST, Record, Sample, Samples, pairs
from harness.bench.statistics import Interval, exponent, median_interval, nearest_rank, tail_interval
from harness.replay.latencies import Latencies
from harness.replay.result import Bin, Percentiles

GROWING = ((FIRST, "seconds"), (CHANGE, "seconds"), ("peak_memory_bytes", ""), ("elements", ""))


def result(records: Sequence[Record], profile: str, baseline: str, facts: BenchFacts, began: str) -> BenchResult:
    """The result without `steps` and `gate`, which depend on the history and the options."""
    rows = [_row(record) for record in records]
    return BenchResult(
        profile=profile,
        began=began,
        seconds=sum(record.took_seconds for record in records),
        machine=facts.machine,
        kernel=facts.kernel,
        tools=facts.tools,
        commit=facts.commit,
        baseline=baseline or None,
        rows=rows,
        growth=list(growth(rows)),
        steps=[],
        gate=None,
    )


def _row(record: Record) -> RowResult:
    row, own = record.row, _subject(record.candidate, record.references)
    return RowResult(
        id=row.id,
        mode=row.mode,
        services=row.services,
        endpoints=row.endpoints,
        churn=row.churn,
        proxy=row.proxy,
        named=row.named,
        state=own.state,
        reason=own.reason,
        first_sync=own.first_sync,
        change=own.change,
        peak_memory_bytes=own.peak_memory_bytes,
        rules=own.rules,
        elements=own.elements,
        references=record.references,
        took_seconds=record.took_seconds,
        baseline=_subject(record.baseline, record.references) if record.baseline else None,
        ratios=list(_ratios(record)) if record.baseline else [],
    )


def _subject(samples: Samples, references: dict[str, dict[str, float]]) -> ProxyFigures:
    return ProxyFigures(
        state=samples.state,
        reason=samples.reason,
        first_sync=_summary(samples, FIRST, references),
        change=_summary(samples, CHANGE, references),
        peak_memory_bytes=max(samples.memory, default=None),
        rules=samples.rules,
        elements=samples.elements,
    )


def _summary(samples: Samples, figure: str, references: dict[str, dict[str, float]]) -> FigureSummary | None:
    """None without samples; CPU seconds are None where they are not known."""
    of = samples.of(figure)
    if not of:
        return None
    seconds = [each.seconds for each in of]
    cpu = [each.cpu_seconds for each in of if each.cpu_seconds is not None]
    relative = {
        clock: min(values) / reference if values and (reference := unit(references, clock)) else None
        for clock, values in zip(CLOCKS, (seconds, cpu), strict=True)
    }
    return FigureSummary(len(of), relative, _percentiles(seconds), _percentiles(cpu) if cpu else None, _histogram(of))


def _percentiles(values: Sequence[float]) -> Percentiles:
    return {
        "min": min(values),
        "p50": nearest_rank(values, 50),
        "p99": nearest_rank(values, 99),
        "max": max(values),
    }


def _histogram(samples: Sequence[Sample]) -> list[Bin]:
    latencies = Latencies()
    for sample in samples:
        latencies.record(sample.seconds)
    return latencies.histogram()


def _ratios(record: Record) -> Iterator[Ratio]:
    """Ratios of every figure that both sides have: candidate to baseline, by pairs."""
    assert record.baseline, "asked for rows that have one"
    for figure in FIGURES:
        for clock in CLOCKS:
            if found := pairs(record.candidate, record.baseline, figure, clock):
                yield Ratio(figure, clock, *median_interval([ours / theirs for ours, theirs in found]))
            if figure == CHANGE and found and (tail := tail_interval(found)).low is not None:
                yield Ratio(CHANGE_P99, clock, *tail)
    memory = zip(record.candidate.memory, record.baseline.memory, strict=False)
    if ratios := [ours / theirs for ours, theirs in memory if ours and theirs]:
        # From outside it is a sum of samples, in which a child that has just been forked counts twice.
        yield Ratio(COUNTS[0], None, *(_whole(ratios) if record.row.inside else median_interval(ratios)))
    for name in COUNTS[1:]:
        ours, theirs = getattr(record.candidate, name), getattr(record.baseline, name)
        if ours and theirs:
            yield Ratio(name, None, *_whole([ours / theirs]))


def _whole(ratios: list[float]) -> Interval:
    """For figures that hardly vary: the interval contains all values."""
    return median_interval(ratios)._replace(low=min(ratios), high=max(ratios))


def value_of(row: RowResult, figure: str, clock: str = "") -> float | None:
    """The p50 of a figure by one clock, or a count; None if unknown."""
    if not clock:
        return row.counts[figure]
    summary = row.of(figure)
    percentiles = summary.by(clock) if summary else None
    return percentiles["p50"] if percentiles else None


def growth(rows: Iterable[RowResult]) -> Iterator[GrowthCurve]:
    """Exponents of figures by the number of Services, from rows that are otherwise equal."""
    groups: dict[tuple[str, str, str, int], list[RowResult]] = {}
    for row in rows:
        groups.setdefault((row.mode, row.proxy, row.churn, row.endpoints), []).append(row)
    for about, of in groups.items():
        for figure, clock in GROWING:
            known = [(row.services, value_of(row, figure, clock)) for row in of]
            points = sorted((services, value) for services, value in known if value)
            slope = exponent(points)
            if slope is not None:
                yield GrowthCurve(*about, figure, slope, points)
