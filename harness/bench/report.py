"""A run as one table for the terminal, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from harness.bench.result import BenchResult, GateFinding, HistoryStep, Ratio, RowResult
from harness.html.words import short
from harness.replay.result import Verdict
from harness.wording import plural

NONE = "-"
Cell = Callable[[RowResult], str]
VERDICTS: dict[Verdict, str] = {True: "passed", False: "FAILED", "unknown": "unknown"}
HOW = {
    "pairs": "than the baseline of the same run",
    "saved": "than the saved result, relative to the reference workloads",
    "step": "since a step in the history, relative to the reference workloads",
    "jump": "than every run since the last step in the history",
}
SHOWN_STEPS = 12


def cluster(row: RowResult) -> str:
    """`44,125 x 1 (kubernetes#139513)`."""
    named = f" ({row.named})" if row.named else ""
    return f"{row.services:,} x {row.endpoints}{named}"


def _time(figure: str, percentile: str, clock: str = "seconds") -> Cell:
    def text(row: RowResult) -> str:
        summary = row.of(figure)
        held = summary and summary.by(clock)
        return short(held[percentile]) if held else NONE

    return text


def _count(name: str, scale: float = 1.0) -> Cell:
    return lambda row: NONE if (count := row.counts[name]) is None else f"{count / scale:,.0f}"


def _ratio(figure: str) -> Cell:
    """Ratios of clock time and of CPU time."""

    def text(row: RowResult) -> str:
        found = [_interval(each) for each in row.ratios if each.figure == figure]
        return "; CPU ".join(found) or NONE

    return text


def _interval(ratio: Ratio) -> str:
    if ratio.low is None:
        return f"{ratio.ratio:.2f} x"
    return f"{ratio.ratio:.2f} x ({ratio.low:.2f} to {ratio.high:.2f})"


COLUMNS: Sequence[tuple[str, Cell]] = (
    ("mode", lambda row: row.mode),
    ("Services x endpoints", cluster),
    ("churn", lambda row: row.churn),
    ("proxy", lambda row: row.proxy),
    ("first sync", _time("first_sync", "p50")),
    ("its CPU", _time("first_sync", "p50", "cpu_seconds")),
    ("change p50", _time("change", "p50")),
    ("p99", _time("change", "p99")),
    ("its CPU", _time("change", "p50", "cpu_seconds")),
    ("MiB", _count("peak_memory_bytes", 2**20)),
    ("rules", _count("rules")),
    ("elements", _count("elements")),
)
COMPARED: Sequence[tuple[str, Cell]] = (
    ("first sync : baseline", _ratio("first_sync")),
    ("change : baseline", _ratio("change")),
    ("change p99 : baseline", _ratio("change_p99")),
)
LEFT = 4
"""Columns of text."""
TOO_FEW = " (too few pairs to judge)"


def columns(result: BenchResult) -> Sequence[tuple[str, Cell]]:
    """With ratios, if any row has some."""
    return (*COLUMNS, *(COMPARED if any(row.ratios for row in result.rows) else ()))


def print_result(result: BenchResult, console: Console) -> None:
    """The table, then explanations."""
    shown, table = columns(result), Table(box=None)
    for number, (name, _) in enumerate(shown):
        table.add_column(name, justify="left" if number < LEFT else "right", no_wrap=number < LEFT)
    for row in result.rows:
        table.add_row(*(text(row) for _, text in shown))
    console.print(table, highlight=False)
    for line in lines(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def lines(result: BenchResult) -> Iterator[str]:
    """Lines that are not in the table: states, growth, steps, the verdict."""
    for row in result.rows:
        if row.state != "measured":
            yield f"{row.id}: {row.state}: {row.reason}"
    yield from growth_lines(result)
    for step in result.steps[:SHOWN_STEPS]:
        yield step_line(step)
    if result.baseline:
        yield f"baseline: {result.baseline}; ratios are medians over pairs (99 % interval), or of p99 (99.9 %)"
    yield from verdict_lines(result)


def growth_lines(result: BenchResult) -> Iterator[str]:
    """One line per figure that was measured at several sizes."""
    for each in result.growth:
        sizes = f"{each.points[0][0]:,} to {each.points[-1][0]:,} Services"
        about = f"{each.mode}, {each.proxy}, {each.churn}, {plural(each.endpoints, 'endpoint')}"
        yield f"{name_of(each.figure)} grows as Services^{each.exponent:.2f} ({about}; {sizes})"


def step_line(step: HistoryStep) -> str:
    """One step of the history."""
    commit = f" (commit {step.commit})" if step.commit else ""
    return f"step: {step.row} {name_of(step.figure)}: {step.ratio - 1:+.0%} since {step.began}{commit}"


def name_of(figure: str) -> str:
    """`change.cpu_seconds` in words."""
    words = {"first_sync": "first sync", "change_p99": "change p99", "peak_memory_bytes": "peak memory"}
    first, _, clock = figure.partition(".")
    return f"{words.get(first, first)}{', CPU' if clock == 'cpu_seconds' else ''}"


def verdict_lines(result: BenchResult) -> Iterator[str]:
    """Lines about the gate, if any."""
    gate = result.gate
    if gate is None:
        return
    for each in gate.findings:
        yield f"{'SLOWER' if each.red else 'unclear'}: {finding(each)}"
    judged, limit = plural(gate.judged, "figure"), gate.fail_on_percent
    yield f"gate: {VERDICTS[gate.passed]}: {judged} judged, limit {limit:g} %"


def finding(each: GateFinding) -> str:
    """One line."""
    if each.ratio is None:
        return f"{each.row}: {each.figure}, and the baseline is not"
    interval = f" ({each.low:.2f} to {each.high:.2f})" if each.low is not None else TOO_FEW * (each.how == "pairs")
    return f"{each.row}: {name_of(each.figure)} {each.ratio:.2f} x{interval} {HOW[each.how]}"


def markdown(result: BenchResult, command: str) -> str:
    """For a pull request: the verdict first, details folded."""
    gate = result.gate
    title = "Benchmarks" if gate is None else f"Benchmarks: {VERDICTS[gate.passed]}"
    shown = columns(result)
    body = [f"## {title}", "", *(f"- {_escaped(line)}" for line in verdict_lines(result)), ""]
    body += ["<details><summary>Figures</summary>", "", _cells(name for name, _ in shown), _cells("---" for _ in shown)]
    body += [_cells(text(row) for _, text in shown) for row in result.rows]
    body += ["", *(f"- {_escaped(line)}" for line in _without_verdict(result)), "", "</details>", ""]
    return "\n".join([*body, where(result), "", "```", command, "```", ""])


def _without_verdict(result: BenchResult) -> list[str]:
    return list(lines(msgspec.structs.replace(result, gate=None)))


def where(result: BenchResult) -> str:
    """The machine, in one line."""
    machine, tools = result.machine, result.tools
    commit = f", commit {result.commit}" if result.commit else ""
    return (
        f"{machine.cpu}, {plural(machine.cpus, 'CPU')}, {machine.memory_mib:,} MiB, load {machine.load:g};"
        f" Linux {result.kernel}; {', '.join(f'{name} {text}' for name, text in tools.items())}{commit};"
        f" {result.began}, {result.seconds:,.0f} s"
    )


def _cells(texts: Iterable[str]) -> str:
    return f"| {' | '.join(_escaped(text) for text in texts)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("#", "#\u200b")
