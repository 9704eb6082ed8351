"""A comparison of modes as a page of text; reads its documented JSON form only."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from harness.report.terminal import PLACES

ROWS = (
    ("initial convergence, s", lambda r: f"{r['initial']['seconds']:,.3f}"),
    ("  of it compute", lambda r: f"{r['initial']['compute_seconds']:,.3f}"),
    ("  of it apply", lambda r: f"{r['initial']['apply_seconds']:,.3f}"),
    ("change converged p50, ms", lambda r: _milliseconds(r, "convergence_seconds", "p50")),
    ("change converged p99, ms", lambda r: _milliseconds(r, "convergence_seconds", "p99")),
    ("compute + apply p50, ms", lambda r: _milliseconds(r, "work_seconds", "p50")),
    ("compute + apply p99, ms", lambda r: _milliseconds(r, "work_seconds", "p99")),
    ("syncs", lambda r: f"{r['syncs']:,}"),
    ("operations", lambda r: f"{r['operations']:,}"),
    ("MiB sent", lambda r: f"{r['bytes'] / 2**20:,.1f}"),
    ("peak memory, MiB", lambda r: f"{r['peak_rss_bytes'] / 2**20:,.0f}"),
    ("verified", lambda r: {True: "yes", False: "NO"}.get(r["verified"], "unknown")),
    ("kernel", lambda r: kernel_of(r)),
)
"""Name of a figure, and how it is taken from a replay's result."""


def print_comparison(comparison: dict[str, Any], console: Console) -> None:
    """Print one table of all modes, what is wrong, and where the modes behave differently."""
    runs = comparison["modes"]
    table = Table(title=_title(comparison), title_justify="left", box=None)
    table.add_column("")
    for run in runs:
        table.add_column(run["mode"], justify="right")
    for name, figure in ROWS:
        table.add_row(name, *(figure(run["result"]) if run["result"] else "-" for run in runs))
    console.print(table)
    for line in _remarks(runs):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    _print_differences(comparison["differences"], [run["mode"] for run in runs], console)


def kernel_of(result: dict[str, Any]) -> str:
    """Where a replay ran: the kernel's release, and what kind of place it was."""
    kernel = result["kernel"]
    return f"{kernel['release']}, {kernel['kind']}" if "release" in kernel else PLACES[kernel["kind"]]


def _title(comparison: dict[str, Any]) -> str:
    found = next((run["result"] for run in comparison["modes"] if run["result"]), None)
    if found is None:
        return comparison["source"]
    recording = found["recording"]
    return (
        f"{comparison['source']}: {recording['services']:,} Services, {recording['endpoints']:,} endpoints,"
        f" {found['change']['count']:,} changes"
    )


def _remarks(runs: list[dict[str, Any]]) -> list[str]:
    lines = [f"{run['mode']}: no figures: {run['reason']}" for run in runs if run["result"] is None]
    for run in runs:
        if run["result"] and run["exit_code"]:
            lines.append(f"{run['mode']}: {run['reason']}")
            lines += [f"  {line}" for line in run["result"]["differences"][:5]]
    kernels = {kernel_of(run["result"]) for run in runs if run["result"]}
    if len(kernels) > 1:
        lines.append(
            "The modes ran in DIFFERENT KERNELS: compare seconds only between modes of the same one"
            " (--kernel uml runs all of them in one)."
        )
    return lines


def _milliseconds(result: dict[str, Any], what: str, percentile: str) -> str:
    summary = result["change"][what]
    return f"{summary[percentile] * 1e3:,.2f}" if summary else "-"


def _print_differences(differences: list[dict[str, Any]], modes: list[str], console: Console) -> None:
    if not differences:
        console.print("On this recording these modes behave the same.")
        return
    table = Table(title="where they behave differently, at the recording's end", title_justify="left", box=None)
    for column in ("rule", "what", *modes, "places", "such as"):
        table.add_column(column, justify="right" if column == "places" else "left", overflow="fold")
    for row in differences:
        told = (row["by_mode"].get(mode, "") for mode in modes)
        table.add_row(row["id"], row["what"], *told, f"{row['count']:,}", row["example"])
    console.print(table)
