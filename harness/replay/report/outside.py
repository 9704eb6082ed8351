"""Proxies measured from outside, next to the engine in process, as one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from harness.replay.compare.result import ModeRun, OutsideResult, OutsideRun, OwnMetrics
from harness.replay.result import Percentiles, ReplayResult, Verdict

IN_PROCESS = "in process"
NONE = "-"
STATE = "state"
VERIFIED: dict[Verdict, str] = {True: "yes", False: "NO", "unknown": "unknown"}


class FigureTable(NamedTuple):
    """`columns` are (mode, whose figures); each of `rows` has a name and a text per column."""

    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[str]]]
    remarks: list[str]


def table(modes: Sequence[ModeRun], proxies: Sequence[OutsideRun]) -> FigureTable:
    """The engine in process first, then every proxy, mode by mode."""
    columns: list[tuple[str, str]] = []
    cells: list[list[str]] = []
    in_process = {run.mode: run.result for run in modes}
    for mode in dict.fromkeys([*in_process, *(run.mode for run in proxies)]):
        if mode in in_process:
            result = in_process[mode]
            columns.append((mode, IN_PROCESS))
            cells.append([NONE if result is None else figure(result) for _, figure, _ in _ROWS])
        for run in proxies:
            if run.mode == mode:
                columns.append((mode, run.name))
                cells.append(_cells(run))
    rows = [(name, [column[n] for column in cells]) for n, (name, _, _) in enumerate(_ROWS)]
    return FigureTable(columns, rows, list(_remarks(proxies)))


def line_of(run: OutsideRun) -> str:
    """One proxy's figures in a line, printed when it is done."""
    words = f"{run.name} in mode {run.mode}: {run.state}"
    result = run.result
    if result is None or result.first_sync_seconds is None:
        return f"{words}: {run.reason}"
    p99 = _milliseconds(result.change.latency_seconds, "p99")
    figures = f"first sync {result.first_sync_seconds:,.3f} s, change p99 {p99} ms"
    return f"{words}: {figures}{': ' + run.reason if run.reason else ''}"


def _remarks(proxies: Sequence[OutsideRun]) -> Iterator[str]:
    yield (
        "From outside: the first sync is timed from the start of the process, a change from when the API has it until"
        " the last change of rules before packets behave as expected; minSyncPeriod 1 ms. In process: without process"
        " start and API; memory includes the oracle when verifying."
    )
    for run in proxies:
        if run.exit_code:
            yield f"{run.name} in mode {run.mode}: {run.state}: {run.reason}"
            lines = [*run.result.missed, *run.result.wrong] if run.result else []
            yield from (f"  {line}" for line in lines[:5] if line != run.reason)


def _cells(run: OutsideRun) -> list[str]:
    result = run.result
    return [run.state if name == STATE else NONE if result is None else figure(result) for name, _, figure in _ROWS]


def _nothing(_: ReplayResult | OutsideResult) -> str:
    return NONE


def _milliseconds(summary: Percentiles | None, percentile: str) -> str:
    return f"{summary[percentile] * 1e3:,.2f}" if summary else NONE


def _inside(percentile: str) -> Callable[[ReplayResult], str]:
    return lambda result: _milliseconds(result.change.work_seconds, percentile)


def _outside(percentile: str) -> Callable[[OutsideResult], str]:
    return lambda result: _milliseconds(result.change.latency_seconds, percentile)


def _kind(kind: str, percentile: str) -> Callable[[OutsideResult], str]:
    return lambda result: _milliseconds(result.change.by_kind.get(kind), percentile)


def _number(value: float | None, form: str = ",") -> str:
    return NONE if value is None else format(value, form)


def _own(of: Callable[[OwnMetrics], float], form: str = ",") -> Callable[[OutsideResult], str]:
    return lambda result: format(of(result.own_metrics), form) if result.own_metrics else NONE


def _memory(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def _kernel(kernel: dict[str, str]) -> str:
    return f"{kernel['release']}, {kernel['kind']}" if "release" in kernel else kernel["kind"]


_ROWS: Sequence[tuple[str, Callable[[ReplayResult], str], Callable[[OutsideResult], str]]] = (
    ("first sync, s", lambda r: f"{r.initial.seconds:,.3f}", lambda r: _number(r.first_sync_seconds, ",.3f")),
    ("change p50, ms", _inside("p50"), _outside("p50")),
    ("change p99, ms", _inside("p99"), _outside("p99")),
    ("change max, ms", _inside("max"), _outside("max")),
    ("  endpoint changes p50", _nothing, _kind("endpointslice-changes", "p50")),
    ("  endpoint changes p99", _nothing, _kind("endpointslice-changes", "p99")),
    ("  service edits p99", _nothing, _kind("service-edits", "p99")),
    ("  deletes p99", _nothing, _kind("deletes", "p99")),
    ("changes", lambda r: f"{r.change.count:,}", lambda r: f"{r.change.total:,}"),
    ("  timed", lambda r: f"{r.change.count:,}", lambda r: f"{r.change.count:,}"),
    ("  missed", _nothing, lambda r: f"{r.change.missed:,}"),
    ("rules", _nothing, lambda r: _number(r.rules)),
    ("elements", _nothing, lambda r: _number(r.elements)),
    ("CPU of the first sync, s", _nothing, lambda r: _number(r.cpu_seconds.get("first_sync"), ",.2f")),
    ("CPU of the changes, s", _nothing, lambda r: _number(r.cpu_seconds.get("changes"), ",.2f")),
    ("peak memory, MiB", lambda r: _memory(r.peak_rss_bytes), lambda r: _memory(r.peak_memory_bytes)),
    ("own metrics: syncs", _nothing, _own(lambda own: own.syncs)),
    ("  mean of a sync, ms", _nothing, _own(lambda own: own.mean_seconds * 1e3, ",.2f")),
    ("verified", lambda r: VERIFIED[r.verified], lambda r: VERIFIED[r.verified]),
    (STATE, _nothing, _nothing),
    ("kernel", lambda r: _kernel(r.kernel), lambda r: _kernel(r.kernel)),
)
"""Name, figure of the engine in process, and figure of a proxy measured from outside."""
