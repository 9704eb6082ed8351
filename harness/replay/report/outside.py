"""Proxies measured from outside beside the engine in process, as one table; reads the documented JSON form only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

IN_PROCESS = "in process"
NONE = "-"
Result = Mapping[str, Any]
_VERIFIED = {True: "yes", False: "NO"}


class FigureTable(NamedTuple):
    """`columns` are (mode, whose figures); each of `rows` has a name and a text per column."""

    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[str]]]
    remarks: list[str]


def table(comparison: Mapping[str, Any]) -> FigureTable:
    """The engine in process first, then every proxy, mode by mode."""
    columns: list[tuple[str, str]] = []
    cells: list[list[str]] = []
    outside = comparison["external"]
    in_process = {run["mode"]: run for run in comparison["modes"]}
    for mode in dict.fromkeys([*in_process, *(run["mode"] for run in outside)]):
        if mode in in_process:
            columns.append((mode, IN_PROCESS))
            cells.append([_cell(inside, in_process[mode]) for _, inside, _ in _ROWS])
        for run in outside:
            if run["mode"] == mode:
                columns.append((mode, run["name"]))
                cells.append([_cell(from_outside, run) for _, _, from_outside in _ROWS])
    rows = [(name, [column[n] for column in cells]) for n, (name, _, _) in enumerate(_ROWS)]
    return FigureTable(columns, rows, list(_remarks(comparison)))


def line_of(run: Mapping[str, Any]) -> str:
    """One proxy's figures in a line, printed when it is done."""
    words = f"{run['name']} in mode {run['mode']}: {run['state']}"
    if run["result"] is None or run["result"]["first_sync_seconds"] is None:
        return f"{words}: {run['reason']}"
    result = run["result"]
    figures = f"first sync {result['first_sync_seconds']:,.3f} s, change p99 {_summary(result, 'p99')} ms"
    return f"{words}: {figures}{': ' + run['reason'] if run['reason'] else ''}"


def _remarks(comparison: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "From outside: the first sync is timed from the start of the process, a change from when the API has it until"
        " the last change of rules before packets behave as expected; minSyncPeriod 1 ms. In process: without process"
        " start and API; memory includes the oracle when verifying."
    )
    for run in comparison["external"]:
        if run["exit_code"]:
            yield f"{run['name']} in mode {run['mode']}: {run['state']}: {run['reason']}"
            lines = (run["result"] or {}).get("missed", []) + (run["result"] or {}).get("wrong", [])
            yield from (f"  {line}" for line in lines[:5] if line != run["reason"])


def _cell(figure: Callable[[Result], str], run: Mapping[str, Any]) -> str:
    if run["result"] is None:
        return str(run.get("state", NONE)) if figure is _state else NONE
    return figure(run["result"] | {"state": run.get("state", "")})


def _nothing(_: Result) -> str:
    return NONE


def _milliseconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds * 1e3:,.2f}"


def _summary(result: Result, percentile: str) -> str:
    return _milliseconds((result["change"]["latency_seconds"] or {}).get(percentile))


def _inside(percentile: str) -> Callable[[Result], str]:
    return lambda result: _milliseconds((result["change"]["work_seconds"] or {}).get(percentile))


def _outside(percentile: str) -> Callable[[Result], str]:
    return lambda result: _summary(result, percentile)


def _kind(kind: str, percentile: str) -> Callable[[Result], str]:
    return lambda result: _milliseconds(result["change"]["by_kind"].get(kind, {}).get(percentile))


def _first(result: Result) -> str:
    seconds = result["first_sync_seconds"]
    return NONE if seconds is None else f"{seconds:,.3f}"


def _cpu(part: str) -> Callable[[Result], str]:
    return lambda result: f"{result['cpu_seconds'][part]:,.2f}" if part in result["cpu_seconds"] else NONE


def _count(key: str) -> Callable[[Result], str]:
    return lambda result: NONE if result.get(key) is None else f"{result[key]:,}"


def _changes(*keys: str) -> Callable[[Result], str]:
    return lambda result: f"{sum(result['change'].get(key, 0) for key in keys):,}"


def _own(key: str, scale: float = 1.0, places: int = 0) -> Callable[[Result], str]:
    def figure(result: Result) -> str:
        value = (result["own_metrics"] or {}).get(key)
        return NONE if value is None else f"{value * scale:,.{places}f}"

    return figure


def _state(result: Result) -> str:
    return str(result["state"])


def _verified(result: Result) -> str:
    return _VERIFIED.get(result["verified"], "unknown")


def _memory(result: Result) -> str:
    held = result["peak_rss_bytes"] if "peak_rss_bytes" in result else result["peak_memory_bytes"]
    return f"{held / 2**20:,.0f}"


def _kernel(result: Result) -> str:
    kernel = result["kernel"]
    return f"{kernel['release']}, {kernel['kind']}" if "release" in kernel else str(kernel["kind"])


_ROWS: Sequence[tuple[str, Callable[[Result], str], Callable[[Result], str]]] = (
    ("first sync, s", lambda r: f"{r['initial']['seconds']:,.3f}", _first),
    ("change p50, ms", _inside("p50"), _outside("p50")),
    ("change p99, ms", _inside("p99"), _outside("p99")),
    ("change max, ms", _inside("max"), _outside("max")),
    ("  endpoint changes p50", _nothing, _kind("endpointslice-changes", "p50")),
    ("  endpoint changes p99", _nothing, _kind("endpointslice-changes", "p99")),
    ("  service edits p99", _nothing, _kind("service-edits", "p99")),
    ("  deletes p99", _nothing, _kind("deletes", "p99")),
    ("changes", _changes("count"), _changes("count", "unseen", "unsettled", "missed")),
    ("  timed", _changes("count"), _changes("count")),
    ("  missed", _nothing, _changes("missed")),
    ("rules", _nothing, _count("rules")),
    ("elements", _nothing, _count("elements")),
    ("CPU of the first sync, s", _nothing, _cpu("first_sync")),
    ("CPU of the changes, s", _nothing, _cpu("changes")),
    ("peak memory, MiB", _memory, _memory),
    ("own metrics: syncs", _nothing, _own("syncs")),
    ("  mean of a sync, ms", _nothing, _own("mean_seconds", 1e3, 2)),
    ("verified", _verified, _verified),
    ("state", _nothing, _state),
    ("kernel", _kernel, _kernel),
)  # fmt: skip
"""Name, figure of the engine in process, and figure of a proxy measured from outside."""
