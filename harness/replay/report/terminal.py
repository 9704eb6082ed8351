"""Prints the result of a replay as text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from harness.replay.result import BetweenSyncs, Bin, ChangeLatencies, Percentiles, ReplayResult
from harness.wording import plural

PLACES = {
    "netns": "throwaway namespace",
    "host": "this host",
    "memory": "in memory, NO KERNEL",
}
MACHINES = {
    "kvm": " of a virtual machine",
    "tcg": " of a virtual machine, EMULATED: times are not representative",
}
_NOT_TOOLS = ("kind", "machine", "release", "reason")
CLOCKS = {"harness": "the harness's clock when the sync returns", "kernel": "the kernel's own notification"}
COLUMNS_BY_ROOM = (
    ("count", "p50", "p90", "p99", "p99.9", "max"),
    ("p50", "p99", "max"),
    ("p99", "max"),
    ("p99",),
)
"""Column sets of the table; the first that fits is used."""
FIRST_COLUMN = len("endpointslice-changes")
OWN: dict[str, Callable[[ChangeLatencies], Percentiles | None]] = {
    "compute + apply": lambda change: change.work_seconds,
    "queue wait": lambda change: change.queue_seconds,
    "conntrack": lambda change: change.conntrack_seconds,
}
"""The engine's own latencies of a change."""
OWN_TITLE, WHOLE_TITLE = "engine latency per change", "convergence per change, including all waiting time"
BLOCKS = "·▁▂▃▄▅▆▇█"


def print_result(result: ReplayResult, console: Console) -> None:
    """Print the environment, initial convergence, change latencies, totals and the verdict."""
    recording, initial, change = result.recording, result.initial, result.change
    if "reason" in result.kernel:
        say(console, f"[red]NO KERNEL, nothing is verified[/red]: {escape(result.kernel['reason'])}")
    say(console, headline(result))
    say(
        console,
        f"{recording.path}: {plural(recording.services, 'Service')},"
        f" {plural(recording.endpoints, 'endpoint')}, {plural(recording.events, 'event')},"
        f" sha256 {recording.sha256[:16]}",
    )
    say(
        console,
        f"initial convergence [bold]{initial.seconds:.3f} s[/bold]: read {initial.read_seconds:.3f},"
        f" compute {initial.compute_seconds:.3f}, apply {initial.apply_seconds:.3f},"
        f" conntrack {initial.conntrack_seconds:.3f}",
    )
    if change.pacing_seconds:
        _print_latencies(change, console)
        say(console, _pacing(result, change.pacing_seconds))
    say(console, sources(change))
    say(console, between(result.between_syncs))
    say(
        console,
        f"{plural(result.syncs, 'sync')}, {plural(result.operations, 'operation')},"
        f" {result.bytes / 2**20:.1f} MiB sent, {plural(result.flows_removed, 'stale flow')} removed,"
        f" peak memory {result.peak_rss_bytes / 2**20:.0f} MiB",
    )
    say(console, f"digest {result.digest}")
    say(console, _verdict(result))


def say(console: Console, text: str) -> None:
    """Print a line: wrapped at words in a terminal, otherwise unwrapped so that it can be searched."""
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)


def picture(result: ReplayResult) -> str:
    """The same text as an SVG picture."""
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True)
    print_result(result, console)
    drawn = console.export_svg(title=f"harness replay {result.recording.path}")
    # Remove web fonts: without network access the picture would look different.
    return re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)


def headline(result: ReplayResult) -> str:
    """Mode and environment, with versions."""
    engine, kernel = result.engine, result.kernel
    where = PLACES[kernel["kind"]] + MACHINES.get(kernel.get("machine", ""), "")
    tools = "".join(f", {name} {version}" for name, version in kernel.items() if name not in _NOT_TOOLS)
    versions = f", Linux {kernel['release']}{tools}" if "release" in kernel else ""
    period = engine.min_sync_period_seconds
    node = f"node {engine.node}" if engine.node else "no node"
    return f"{engine.mode} mode, {where}{versions}, minSyncPeriod {period:g} s, {node}"


def _print_latencies(change: ChangeLatencies, console: Console) -> None:
    """The engine's own latency first, then the whole convergence."""
    count = change.count
    own = [(name, count, of(change)) for name, of in OWN.items()]
    whole = [("all changes", count, change.convergence_seconds)]
    whole += [(kind, of.count, of.convergence_seconds) for kind, of in change.by_kind.items()]
    for title, rows in ((OWN_TITLE, own), (WHOLE_TITLE, whole)):
        say(console, f"[italic]{title}, milliseconds[/italic]")
        console.print(_fitting([(name, number, found) for name, number, found in rows if found], console))
    if histogram := change.histograms["work"]:
        say(console, f"compute + apply of {plural(count, 'change')}: {_bars(histogram)}")


def _fitting(rows: list[tuple[str, int, Percentiles]], console: Console) -> Table:
    """The table with as many columns as fit without truncation."""
    unbounded = console.options.update(width=1000)
    tables = (_latencies(rows, columns) for columns in COLUMNS_BY_ROOM)
    return next(
        (each for each in tables if Measurement.get(console, unbounded, each).maximum <= console.width),
        _latencies(rows, COLUMNS_BY_ROOM[-1]),
    )


def _latencies(rows: list[tuple[str, int, Percentiles]], columns: tuple[str, ...]) -> Table:
    table = Table(box=None)
    table.add_column("", min_width=FIRST_COLUMN)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for name, count, seconds in rows:
        figures = (f"{count:,}" if c == "count" else f"{seconds[c] * 1e3:,.2f}" for c in columns)
        table.add_row(name, *figures)
    return table


def _bars(histogram: list[Bin]) -> str:
    """One block character per bin, with the upper bounds of the first and the last bin."""
    most = max(each.count for each in histogram)
    heights = (0 if not each.count else 1 + each.count * (len(BLOCKS) - 2) // most for each in histogram)
    first, last = (f"{each.up_to_seconds * 1e3:g} ms" for each in (histogram[0], histogram[-1]))
    return f"up to {first} {''.join(BLOCKS[height] for height in heights)} up to {last}"


def _pacing(result: ReplayResult, pacing: Percentiles) -> str:
    """How much of the convergence is due to minSyncPeriod, and how many changes waited for a running sync."""
    change, period = result.change, result.engine.min_sync_period_seconds
    if not period:
        return "minSyncPeriod is 0: changes do not wait for a sync to be due"
    return (
        f"of the convergence time, minSyncPeriod {period:g} s accounts for {pacing['p50']:.2f} s (median) and up to"
        f" {pacing['max']:.2f} s of waiting, independent of the engine's speed; {change.queued:,} of"
        f" {plural(change.count, 'change')} waited for a sync that was still running"
    )


def sources(change: ChangeLatencies) -> str:
    """The clocks that the figures are based on, and what they exclude."""
    clocks = [f"{CLOCKS[name]} ({count:,})" for name, count in sorted(change.clocks.items(), reverse=True)]
    ends = f"the end of a change is taken from {' or '.join(clocks)}, " if clocks else ""
    hidden = change.hidden_seconds
    delay = f"at most {hidden['max'] * 1e3:,.2f} ms after the engine's own report; " if hidden else ""
    left = {key.replace("_", " "): count for key, count in change.not_counted.items() if count}
    apart = "".join(f", {count:,} {what}" for what, count in left.items())
    apart = f"; changes not counted: {apart[2:]}" if apart else ""
    return f"{ends}{delay}percentiles are nearest-rank{apart}"


def between(seen: BetweenSyncs) -> str:
    """What was observed during syncs."""
    gap = seen.longest_gap_seconds
    if gap is None:
        return "during syncs: unknown, no connections were attempted"
    heard = f"; {plural(seen.generations, 'generation')} announced,"
    heard += f" at most {seen.most_generations_in_a_sync} per sync"
    return (
        f"during syncs: {plural(seen.connections, 'connection')} to unchanged destinations, {seen.lost:,} lost,"
        f" longest gap {gap * 1e3:,.1f} ms{heard if seen.generations else ''}"
    )


def _verdict(result: ReplayResult) -> str:
    verified, about = result.verified, result.verification
    if verified is False:
        return "[red]NOT verified[/red]:\n" + "\n".join(f"  {escape(line)}" for line in result.differences[:20])
    if verified is not True:
        return f"verified: unknown: {escape(about.unknown_because)}"
    points = plural(result.checks, "point")
    if about.held_by == "memory":
        return f"[green]verified[/green] in memory: the program agreed with the oracle at {points}"
    packets = f", {plural(result.connections, 'connection')} with real packets succeeded" if result.connections else ""
    line = f"[green]verified[/green]: the kernel agreed with the oracle at {points}{packets}"
    left = "; ".join(about.not_checked)
    return f"{line}\nnot checked: {escape(left)}" if left else line
