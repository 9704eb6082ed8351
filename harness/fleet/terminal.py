"""Prints the results as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.fleet.result import FleetChange, FleetResult, SampledNode, ScenarioFigures, Sweep
from harness.html import words
from harness.replay.report.fitting import print_table
from harness.replay.report.terminal import say
from harness.wording import plural

LAST_SHOWN = 5


def _at(key: str) -> Callable[[ScenarioFigures], str]:
    return lambda column: words.short(found[key]) if (found := column.convergence_seconds) else words.NOTHING


def _dead(key: str) -> Callable[[ScenarioFigures], str]:
    def cell(column: ScenarioFigures) -> str:
        found = column.dead_endpoints.reachable_seconds
        return words.short(found[key]) if found else words.NOTHING

    return cell


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:,.1f} MiB"


def _nodes(column: ScenarioFigures) -> str:
    found = column.changes.nodes_each
    return f"{found.p50:,} / {found.max:,}" if found else words.NOTHING


ROWS: tuple[tuple[str, Callable[[ScenarioFigures], str]], ...] = (
    ("convergence p50", _at("p50")),
    ("convergence p99", _at("p99")),
    ("convergence max", _at("max")),
    ("dead endpoints", lambda column: f"{column.dead_endpoints.count:,}"),
    ("reachable from any node, p99", _dead("p99")),
    ("reachable from any node, max", _dead("max")),
    ("changes", lambda column: f"{column.changes.count:,}"),
    ("changes without an effect on any node", lambda column: f"{column.changes.of_no_node:,}"),
    ("nodes that a change touched, median / max", _nodes),
    ("syncs", lambda column: f"{column.syncs:,}"),
    ("syncs for nothing", lambda column: words.percent(column.syncs_for_nothing, column.syncs)),
    ("operations", lambda column: f"{column.operations:,}"),
    ("sent to kernels", lambda column: _mebibytes(column.bytes)),
    ("received by watches", lambda column: _mebibytes(column.watch_bytes)),
    ("compute + apply of all nodes", lambda column: words.seconds(column.work_seconds)),
)
"""Figures by name, for every scenario."""


def print_answer(result: FleetResult, console: Console) -> None:
    """Print the figures of every scenario, the zones and kinds, the last nodes and the sample."""
    say(console, headline(result))
    print_table(_figures(result.columns), console)
    print_table(_groups(result.columns[0]), console)
    if result.changes:
        print_table(_last(result.changes), console)
    for line in remarks(result):
        say(console, escape(line))


def headline(result: FleetResult) -> str:
    """Mode, recording and views."""
    recording, engine, by = result.recording, result.engine, result.computed_by
    return (
        f"{engine.mode} mode, {plural(result.views, 'view')} of {plural(recording.nodes, 'node')} in"
        f" {plural(len(result.zones), 'zone')}, minSyncPeriod {engine.min_sync_period_seconds:g} s\n"
        f"{recording.path}: {plural(recording.services, 'Service')},"
        f" {plural(recording.endpoints, 'endpoint')}, {plural(recording.events, 'event')};"
        f" computed in {by.seconds:.1f} s by {plural(by.workers, 'process', 'processes')}"
    )


def _figures(columns: list[ScenarioFigures]) -> Table:
    table = Table(box=None)
    table.add_column("the whole fleet")
    for column in columns:
        table.add_column(column.name, justify="right")
    for name, cell in ROWS:
        table.add_row(name, *(cell(column) for column in columns))
    return table


def _groups(column: ScenarioFigures) -> Table:
    table = Table(box=None)
    for number, name in enumerate(("convergence", "changes x nodes", "p50", "p99", "max")):
        table.add_column(name, justify="right" if number else "left")
    for title, groups in (("zone", column.by_zone), ("", column.by_kind)):
        for name, group in groups.items():
            if found := group.convergence_seconds:
                cells = (words.short(found[key]) for key in ("p50", "p99", "max"))
                table.add_row(f"{title} {name or 'none'}".strip(), f"{group.count:,}", *cells)
    return table


def _last(changes: list[FleetChange]) -> Table:
    table = Table(box=None)
    for number, name in enumerate(("slowest changes", "seq", "nodes", "last node", "after")):
        table.add_column(name, justify="right" if number in (1, 2, 4) else "left")
    for each in sorted(changes, key=lambda each: (-each.last_seconds, each.seq))[:LAST_SHOWN]:
        table.add_row(
            f"{each.kind} {each.service}", f"{each.seq:,}", f"{each.nodes:,}", each.last_node,
            words.short(each.last_seconds),
        )  # fmt: skip
    return table


def remarks(result: FleetResult) -> list[str]:
    """The basis of the figures: the cost of a sync, the sample, nodes left out, and lost workers."""
    cost, lines = result.engine.cost, list[str]()
    lines.append(
        f"a sync is taken to cost {words.short(cost.fixed_seconds)} and {words.short(cost.per_operation_seconds)}"
        " per operation, as measured on one view of this run; waiting is the recording's"
    )
    worst = result.columns[0].dead_endpoints.worst
    if worst:
        lines.append(
            f"longest reachable while dead: {plural(worst.endpoints, 'endpoint')} of {worst.service}"
            f" (seq {worst.seq:,}), {words.short(worst.seconds)}"
            + (f", last on {worst.last_node}" if worst.last_node else ", until it was back")
        )
    later = result.recording.joined_later
    if later:
        lines.append(f"not viewed: {plural(len(later), 'node')} that joined after the initial list")
    if result.computed_by.lost:
        lines.append(f"{plural(result.computed_by.lost, 'worker')} lost on the way; others did their nodes")
    return [*lines, *map(_sample, result.samples)]


def _sample(each: SampledNode) -> str:
    same = "the same digest as" if each.view_digest == each.replay_digest else "ANOTHER DIGEST THAN"
    line = f"{each.node}: {same} its own replay in {each.kernel}, {each.view_digest[:16]}"
    if each.kernel == "memory":
        return line
    verdict = {True: "verified", False: "NOT verified", "unknown": "not verified"}[each.verified]
    return f"{line}; {verdict}, {plural(each.differences, 'difference')}"


SWEEP = ("minSyncPeriod", "syncs", "for nothing", "CPU", "of a core", "p50", "p99", "max", "")


def print_sweep(result: Sweep, console: Console) -> None:
    """Print a sweep of minSyncPeriod as a table, and the meaning of the knee."""
    table = Table(box=None)
    for number, name in enumerate(SWEEP):
        table.add_column(name, justify="right" if number < len(SWEEP) - 1 else "left")
    for row in sweep_rows(result):
        table.add_row(*row)
    say(console, escape(sweep_headline(result)))
    print_table(table, console)
    say(console, knee_line(result))


def sweep_headline(result: Sweep) -> str:
    """The subject of the measurement."""
    recording = result.recording
    return (
        f"{result.mode} mode, {result.kernel}, node {result.node}: {recording.path},"
        f" {words.seconds(recording.seconds)} of changes"
    )


def sweep_rows(result: Sweep) -> Iterator[tuple[str, ...]]:
    """The cells of SWEEP, one row a period."""
    for each in result.points:
        seconds = map(words.short, (each.p50_seconds, each.p99_seconds, each.max_seconds))
        yield (
            f"{each.min_sync_period_seconds:g} s", f"{each.syncs:,}",
            words.percent(each.syncs_for_nothing, each.syncs), words.short(each.cpu_seconds),
            words.percent(each.cpu_seconds, result.recording.seconds), *seconds,
            "◄ knee" if each.knee else "",
        )  # fmt: skip


def knee_line(result: Sweep) -> str:
    """The meaning of the marked value, or why none is marked."""
    points = result.points
    here = next((n for n, each in enumerate(points) if each.knee), None)
    if here is None:
        return "no knee: over these values the CPU time does not fall faster than the p99 rises"
    least, found = points[0], points[here]
    saved = least.cpu_seconds - found.cpu_seconds
    later = found.p99_seconds - least.p99_seconds
    return (
        f"knee at {found.min_sync_period_seconds:g} s: it saves {words.percent(saved, least.cpu_seconds)} of the"
        f" CPU time of {least.min_sync_period_seconds:g} s for {words.short(later)} more at the p99;"
        f" {result.method}"
    )
