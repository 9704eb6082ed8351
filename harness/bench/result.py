"""The documented JSON object of a run, from its records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.bench.references import unit
from harness.bench.samples import CHANGE, CLOCKS, FIRST, Record, Samples, pairs
from harness.bench.statistics import exponent, median_interval, nearest_rank, tail_interval
from harness.replay.latencies import Latencies

FIGURES = (FIRST, CHANGE)
CHANGE_P99 = "change_p99"
"""A figure of pairs alone."""
COUNTS = ("peak_memory_bytes", "rules", "elements")
GROWING = ((FIRST, "seconds"), (CHANGE, "seconds"), ("peak_memory_bytes", ""), ("elements", ""))
RANGE = ("above_seconds", "up_to_seconds", "count")
Result = dict[str, Any]


def result(records: Sequence[Record], profile: str, baseline: str, facts: dict[str, Any], began: str) -> Result:
    """The object without `steps` and `gate`, which depend on the history and the options."""
    rows = [_row(record) for record in records]
    return {
        "profile": profile,
        "began": began,
        "seconds": sum(record.took_seconds for record in records),
        **facts,
        "baseline": baseline or None,
        "rows": rows,
        "growth": list(growth(rows)),
    }


def _row(record: Record) -> Result:
    row = record.row
    return {
        "id": row.id,
        "mode": row.mode,
        "services": row.services,
        "endpoints": row.endpoints,
        "churn": row.churn,
        "proxy": row.proxy,
        "named": row.named,
        **_subject(record.candidate, record.references),
        "references": record.references,
        "took_seconds": record.took_seconds,
        "baseline": _subject(record.baseline, record.references) if record.baseline else None,
        "ratios": list(_ratios(record)) if record.baseline else [],
    }


def _subject(samples: Samples, references: dict[str, dict[str, float]]) -> Result:
    return {
        "state": samples.state,
        "reason": samples.reason,
        **{figure: _summary(samples, figure, references) for figure in FIGURES},
        "peak_memory_bytes": max(samples.memory, default=None),
        "rules": samples.rules,
        "elements": samples.elements,
    }


def _summary(samples: Samples, figure: str, references: dict[str, dict[str, float]]) -> Result | None:
    """None without samples; CPU seconds are null where they are not known."""
    of = samples.of(figure)
    if not of:
        return None
    found: Result = {"count": len(of), "relative": {}}
    for clock in CLOCKS:
        values = [value for each in of if (value := getattr(each, clock)) is not None]
        found[clock] = _percentiles(values) if values else None
        reference = unit(references, clock)
        found["relative"][clock] = found[clock]["min"] / reference if values and reference else None
    return found | {"histogram": _histogram(samples, figure)}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {
        "min": min(values),
        "p50": nearest_rank(values, 50),
        "p99": nearest_rank(values, 99),
        "max": max(values),
    }


def _histogram(samples: Samples, figure: str) -> list[dict[str, Any]]:
    latencies = Latencies()
    for sample in samples.of(figure):
        latencies.record(sample.seconds)
    return [dict(zip(RANGE, each, strict=True)) for each in latencies.histogram()]


def _ratios(record: Record) -> Iterator[Result]:
    """Ratios of every figure that both sides have: candidate to baseline, by pairs."""
    assert record.baseline, "asked for rows that have one"
    for figure in FIGURES:
        for clock in CLOCKS:
            if found := pairs(record.candidate, record.baseline, figure, clock):
                interval = median_interval([ours / theirs for ours, theirs in found])
                yield {"figure": figure, "clock": clock, **interval._asdict()}
            if figure == CHANGE and found and (tail := tail_interval(found)).low is not None:
                yield {"figure": CHANGE_P99, "clock": clock, **tail._asdict()}
    memory = zip(record.candidate.memory, record.baseline.memory, strict=False)
    if ratios := [ours / theirs for ours, theirs in memory if ours and theirs]:
        # From outside it is a sum of samples, in which a child that has just been forked counts twice.
        held = _whole(ratios) if record.row.inside else median_interval(ratios)._asdict()
        yield {"figure": COUNTS[0], "clock": None, **held}
    for name in COUNTS[1:]:
        ours, theirs = getattr(record.candidate, name), getattr(record.baseline, name)
        if ours and theirs:
            yield {"figure": name, "clock": None, **_whole([ours / theirs])}


def _whole(ratios: list[float]) -> Result:
    """For figures that hardly vary: the interval contains all values."""
    return {**median_interval(ratios)._asdict(), "low": min(ratios), "high": max(ratios)}


def value_of(row: Result, figure: str, clock: str = "") -> float | None:
    """The p50 of a figure by one clock, or a count; None if unknown."""
    held = row[figure]
    if not clock or held is None:
        return None if clock else held
    summary = held[clock]
    return None if summary is None else summary["p50"]


def growth(rows: Iterable[Result]) -> Iterator[Result]:
    """Exponents of figures by the number of Services, from rows that are otherwise equal."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in ("mode", "proxy", "churn", "endpoints")), []).append(row)
    for (mode, proxy, churn, endpoints), of in groups.items():
        for figure, clock in GROWING:
            known = [(row["services"], value_of(row, figure, clock)) for row in of]
            points = sorted((services, value) for services, value in known if value)
            slope = exponent(points)
            if slope is not None:
                about = {"mode": mode, "proxy": proxy, "churn": churn, "endpoints": endpoints, "figure": figure}
                yield {**about, "exponent": slope, "points": [list(point) for point in points]}
