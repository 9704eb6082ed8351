"""Data of a chaos run in addition to its recording: faults, requests and kernel changes, on the same clock."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

RECORDING, VERDICT, FACTS = "events.jsonl", "verdict.json", "run.json"
MOST_INTERVALS = 240
NS = 1_000_000_000


class FaultInterval(msgspec.Struct, frozen=True):
    """One fault in force; seconds on the recording's clock."""

    name: str
    began: float
    ended: float
    targets: list[str]
    lost: int


class ObservedChange(msgspec.Struct, frozen=True):
    """When a node's kernel added an address (`wanted`) or removed it; `seen` None: not before the change was undone."""

    node: str
    address: str
    wanted: bool
    asked: float
    seen: float | None
    source: str = ""


class RequestInterval(msgspec.Struct, frozen=True):
    """Requests of all flows by when they were due; `p99_ms` is that of the worst flow in the worst second."""

    at: float
    answered: int
    lost: int
    p99_ms: float | None


class _Process(msgspec.Struct, frozen=True):
    name: str
    file: str


class _Facts(msgspec.Struct, frozen=True):
    observations: list[ObservedChange]
    load: list[_Process] = []
    began_monotonic_ns: int = 0
    seconds: float = 0.0


class _Row(msgspec.Struct, frozen=True):
    """A line of a load's log: of kind `second` (requests by when they were due) or `failure` (a lost request)."""

    kind: str
    at_ns: int = 0
    answered: int = 0
    p99_us: int | None = None


class ChaosRun(msgspec.Struct, frozen=True):
    """A chaos run: its verdict (None for unknown), its faults, its requests, and its kernels' changes.

    `step_seconds` is the length of each interval, `incomplete` names loads whose logs lack their end, `ended` is the
    run's end.
    """

    verdict: bool | None
    faults: list[FaultInterval]
    requests: list[RequestInterval]
    step_seconds: float
    incomplete: list[str]
    observed: list[ObservedChange]
    ended: float


def read_run(folder: Path) -> ChaosRun:
    """Reads a run's folder.  ValueError names an invalid file; OSError."""
    path = folder / VERDICT
    try:
        verdict: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        faults = [_fault(finding) for finding in verdict["findings"]]
        value = msgspec.convert(verdict["value"], bool | None)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a chaos run's verdict: {error}") from None
    facts = _facts(folder / FACTS)
    loads = {each.name: list(_rows(folder / each.file)) for each in facts.load}
    incomplete = [name for name, rows in loads.items() if not rows or rows[-1].kind != "end"]
    rows = [row for rows in loads.values() for row in rows if row.kind in ("second", "failure")]
    requests, step = _intervals(rows, facts.began_monotonic_ns)
    ended = max([facts.seconds, *(each.at + step for each in requests)])
    return ChaosRun(value, faults, requests, step, incomplete, facts.observations, ended)


def _facts(path: Path) -> _Facts:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Facts)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: not a chaos run's facts: {error}") from None


def _fault(finding: dict[str, Any]) -> FaultInterval:
    began = finding["began"]
    ended = began if finding["ended"] is None else finding["ended"]
    return FaultInterval(finding["fault"], began, ended, [*finding["pods"], *finding["nodes"]], finding["lost"])


def _rows(path: Path) -> Iterator[_Row]:
    """The complete lines of a log: a killed load generator leaves a partial line, or no file."""
    decode = msgspec.json.Decoder(_Row).decode
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            yield decode(line)
        except msgspec.MsgspecError:
            return


def _intervals(rows: Iterable[_Row], began_ns: int) -> tuple[list[RequestInterval], float]:
    """At most MOST_INTERVALS intervals of whole seconds, and their length; loads of one machine share a clock."""
    seconds: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        seconds[row.at_ns // NS].append(row)
    first, last = min(seconds, default=0), max(seconds, default=0)
    step = math.ceil((last + 1 - first) / MOST_INTERVALS)
    held: dict[int, list[_Row]] = defaultdict(list)
    for second, found in seconds.items():
        held[(second - first) // step].extend(found)
    return [_interval(first + n * step - began_ns / NS, held[n]) for n in sorted(held)], float(step)


def _interval(at: float, rows: list[_Row]) -> RequestInterval:
    worst = max((row.p99_us for row in rows if row.p99_us is not None), default=None)
    lost = sum(row.kind == "failure" for row in rows)
    return RequestInterval(at, sum(row.answered for row in rows), lost, None if worst is None else worst / 1000)
