"""A replay's result as a page of text; reads the documented JSON form only."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PLACES = {
    "netns": "throwaway namespace",
    "uml": "user-mode Linux",
    "host": "this host",
    "memory": "in memory, NO KERNEL",
}
_NOT_TOOLS = ("kind", "release", "reason")
COLUMNS = ("p50", "p90", "p99", "p99.9", "max")


def print_result(result: dict[str, Any], console: Console) -> None:
    """Print what ran where, initial convergence, change latencies, totals and the verdict."""
    console.print(headline(result), highlight=False, soft_wrap=True)
    recording, initial = result["recording"], result["initial"]
    console.print(
        f"{recording['path']}: {recording['services']:,} Services, {recording['endpoints']:,} endpoints,"
        f" {recording['events']:,} events, sha256 {recording['sha256'][:16]}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"initial convergence [bold]{initial['seconds']:.3f} s[/bold]: read {initial['read_seconds']:.3f},"
        f" compute {initial['compute_seconds']:.3f}, apply {initial['apply_seconds']:.3f},"
        f" conntrack {initial['conntrack_seconds']:.3f}",
        highlight=False,
        soft_wrap=True,
    )
    if result["change"]["count"]:
        console.print(_latencies(result["change"]))
    console.print(
        f"{result['syncs']:,} syncs, {result['operations']:,} operations, {result['bytes'] / 2**20:.1f} MiB sent,"
        f" {result['flows_removed']:,} stale flows removed, peak memory {result['peak_rss_bytes'] / 2**20:.0f} MiB",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"digest {result['digest']}", highlight=False, soft_wrap=True)
    console.print(_verdict(result), highlight=False, soft_wrap=True)


def save_picture(result: dict[str, Any], path: str) -> None:
    """The same page as an SVG picture."""
    console = Console(record=True, width=118, file=io.StringIO())
    print_result(result, console)
    picture = console.export_svg(title=f"harness replay {result['recording']['path']}")
    # A picture that needs the network for its font would look different without it.
    Path(path).write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL))


def headline(result: dict[str, Any]) -> str:
    """What ran where, with versions."""
    engine, kernel = result["engine"], result["kernel"]
    where = PLACES[kernel["kind"]]
    tools = "".join(f", {name} {version}" for name, version in kernel.items() if name not in _NOT_TOOLS)
    versions = f", Linux {kernel['release']}{tools}" if "release" in kernel else ""
    reason = f" ({kernel['reason']})" if "reason" in kernel else ""
    period = engine["min_sync_period_seconds"]
    return f"{engine['mode']} mode, {where}{versions}, minSyncPeriod {period:g} s, node {engine['node']}{reason}"


def _latencies(change: dict[str, Any]) -> Table:
    table = Table(title="convergence of a change, milliseconds", title_justify="left", box=None)
    table.add_column("")
    table.add_column("count", justify="right")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    rows = [("all changes", change["count"], change["convergence_seconds"])]
    rows += [(k, v["count"], v["convergence_seconds"]) for k, v in change["by_kind"].items() if v["count"]]
    rows.append(("compute + apply", change["count"], change["work_seconds"]))
    rows.append(("conntrack", change["count"], change["conntrack_seconds"]))
    for name, count, seconds in rows:
        table.add_row(name, f"{count:,}", *(f"{seconds[column] * 1e3:,.2f}" for column in COLUMNS))
    return table


def _verdict(result: dict[str, Any]) -> str:
    verified = result["verified"]
    if verified is True:
        packets = f", {result['connections']} connections with real packets arrived" if result["connections"] else ""
        return f"[green]verified[/green]: the kernel agreed with the oracle at {result['checks']} points{packets}"
    if verified is False:
        return "[red]NOT verified[/red]:\n" + "\n".join(f"  {line}" for line in result["differences"][:20])
    return "verified: unknown (not checked)"
