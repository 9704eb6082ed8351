"""The history of runs, a file of JSON lines that is only ever appended to, and the series in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.bench.result import COUNTS, FIGURES
from harness.bench.samples import CLOCKS
from harness.failure import Failure

FORMAT = 1
Line = Mapping[str, Any]


class HistoryError(Failure, ValueError):
    """A history that cannot be read; the message names the line."""

    exit_code = 2


def line_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a run: version, machine, and every figure, times also relative to the references of their row."""
    figures = {f"{row['id']} {name}": value for row in result["rows"] for name, value in _figures(row)}
    about = ("began", "profile", "machine", "kernel", "tools", "commit")
    return {"format": FORMAT, **{name: result[name] for name in about}, "figures": figures}


def _figures(row: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    for figure in FIGURES:
        for clock in CLOCKS:
            held = row[figure]
            if held and held[clock]:
                relative = held["relative"][clock]
                value = {"value": held[clock]["p50"], **({"relative": relative} if relative else {})}
                yield f"{figure}.{clock}", value
    for count in COUNTS:
        if row[count]:
            yield count, {"value": row[count]}


def append(path: Path, line: Line) -> None:
    """Append a line by a single write, so that several runs may append at the same time."""
    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(f"{path}: the line was not written completely")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Line]:
    """All lines; none if there is no file yet.  HistoryError names a bad line."""
    if not path.exists():
        return []
    found: list[Line] = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            line = json.loads(text)
            if line["format"] != FORMAT or not isinstance(line["figures"], dict):
                raise ValueError(f"format {line['format']!r}")
        except (ValueError, KeyError, TypeError) as error:
            raise HistoryError(f"{path}, line {number}: not a line of `harness bench --history`: {error}") from None
        found.append(line)
    return found


def series(lines: Sequence[Line]) -> dict[str, list[tuple[int, float]]]:
    """For each figure the line's index and the value, relative if it is a time."""
    found: dict[str, list[tuple[int, float]]] = {}
    for index, line in enumerate(lines):
        for name, held in line["figures"].items():
            value = held.get("relative") if "seconds" in name.rpartition(" ")[2] else held["value"]
            if value and value > 0:
                found.setdefault(name, []).append((index, value))
    return found
