"""The history of runs, a file of JSON lines that is only ever appended to, and the series in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from harness.bench.result import FIGURES, BenchMachine, BenchResult, RowResult
from harness.bench.samples import CLOCKS
from harness.exit_codes import EXIT_INPUT
from harness.failure import Failure

FORMAT = 1


class HistoryFigure(msgspec.Struct, frozen=True):
    """The p50 or a count; a time is also relative to the references of its row, if they took any."""

    value: int | float
    relative: float | msgspec.UnsetType = msgspec.UNSET


class HistoryLine(msgspec.Struct, frozen=True):
    """One run: when and where it was, and its figures by `ROW FIGURE`."""

    format: int
    began: str
    profile: str
    machine: BenchMachine
    kernel: str
    tools: dict[str, str]
    commit: str | None
    figures: dict[str, HistoryFigure]


class HistoryError(Failure, ValueError):
    """A history that cannot be read; the message names the line."""

    exit_code = EXIT_INPUT


def line_of(result: BenchResult) -> HistoryLine:
    """The line of a run."""
    return HistoryLine(
        FORMAT,
        result.began,
        result.profile,
        result.machine,
        result.kernel,
        result.tools,
        result.commit,
        {f"{row.id} {name}": figure for row in result.rows for name, figure in _figures(row)},
    )


def _figures(row: RowResult) -> Iterator[tuple[str, HistoryFigure]]:
    for figure in FIGURES:
        summary = row.of(figure)
        for clock in CLOCKS if summary else ():
            if summary and (held := summary.by(clock)):
                yield f"{figure}.{clock}", HistoryFigure(held["p50"], summary.relative[clock] or msgspec.UNSET)
    for name, count in row.counts.items():
        if count:
            yield name, HistoryFigure(count)


def append(path: Path, line: HistoryLine) -> None:
    """Append a line by a single write, so that several runs may append at the same time."""
    data = json.dumps(msgspec.to_builtins(line), separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(f"{path}: the line was not written completely")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[HistoryLine]:
    """All lines; none if there is no file yet.  HistoryError names a bad line."""
    if not path.exists():
        return []
    found: list[HistoryLine] = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            line = msgspec.json.decode(text, type=HistoryLine)
            if line.format != FORMAT:
                raise ValueError(f"format {line.format}")
        except (msgspec.MsgspecError, ValueError) as error:
            raise HistoryError(f"{path}, line {number}: not a line of `harness bench --history`: {error}") from None
        found.append(line)
    return found


def series(lines: Sequence[HistoryLine]) -> dict[str, list[tuple[int, float]]]:
    """For each figure the line's index and the value, relative if it is a time."""
    found: dict[str, list[tuple[int, float]]] = {}
    for index, line in enumerate(lines):
        for name, held in line.figures.items():
            value = held.relative if "seconds" in name.rpartition(" ")[2] else held.value
            if value and value > 0:
                found.setdefault(name, []).append((index, value))
    return found
