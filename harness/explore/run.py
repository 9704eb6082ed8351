"""Data of a chaos run in addition to its recording: faults, lost requests and its kernels on the same clock."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

RECORDING, VERDICT, LOST, FACTS = "events.jsonl", "verdict.json", "lost.csv", "run.json"


class Fault(msgspec.Struct, frozen=True):
    """One fault in force; seconds on the recording's clock."""

    name: str
    began: float
    ended: float
    targets: list[str]
    lost: int


class Observation(msgspec.Struct, frozen=True):
    """When a node's kernel added an address (`wanted`) or removed it; `seen` None: it had not when that was undone."""

    node: str
    address: str
    wanted: bool
    asked: float
    seen: float | None
    source: str = ""


class _Facts(msgspec.Struct, frozen=True):
    observations: list[Observation]


class Run(msgspec.Struct, frozen=True):
    """A chaos run: its verdict (None for unknown), its faults, what its kernels followed.

    `lost`: (second, lost requests) for seconds with losses.
    """

    verdict: bool | None
    faults: list[Fault]
    lost: list[tuple[int, int]]
    observed: list[Observation]


def read_run(folder: Path) -> Run:
    """Reads a run's folder.  ValueError names an invalid file; OSError."""
    path = folder / VERDICT
    try:
        verdict: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        faults = [_fault(finding) for finding in verdict["findings"]]
        value = msgspec.convert(verdict["value"], bool | None)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a chaos run's verdict: {error}") from None
    return Run(value, faults, _lost(folder / LOST), _observed(folder / FACTS))


def _observed(path: Path) -> list[Observation]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Facts).observations
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: not a chaos run's facts: {error}") from None


def _fault(finding: dict[str, Any]) -> Fault:
    began = finding["began"]
    ended = began if finding["ended"] is None else finding["ended"]
    return Fault(finding["fault"], began, ended, [*finding["pods"], *finding["nodes"]], finding["lost"])


def _lost(path: Path) -> list[tuple[int, int]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        try:
            seconds = Counter(int(float(row["at_seconds"])) for row in csv.DictReader(file))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a chaos run's list of lost requests: {error}") from None
    return sorted(seconds.items())
