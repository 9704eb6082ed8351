"""Reads a run's folder: run.json, load logs, the recording.  Times are in seconds on the log's clock."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram

from chaos.run_facts import VERSION, LoadFile, RunFacts
from chaos.verdict.journal import read_journal
from harness.kube.resources import Manifest
from harness.log import open_source
from harness.log.events import OBJECT_TYPES, JsonObject

LOWEST_US, HIGHEST_US, DIGITS = 1, 60_000_000, 3


class FactsError(ValueError):
    """A folder without a run, or with unreadable files; the message names the file and the reason."""


class LostRequest(msgspec.Struct, frozen=True):
    """A lost request: when it was due and when it failed, cause, sender and target.

    `older`: its packets were matched to an earlier connection from the same port, which was lost too.
    """

    at: float
    ended: float
    flow: str
    cause: str
    via: str
    node: str | None = None
    endpoint: str | None = None
    pod: str | None = None
    where: str = ""
    older: bool = False


class Second(msgspec.Struct, frozen=True):
    """One second of one flow, by the time at which requests were due."""

    at: float
    flow: str
    sent: int
    answered: int
    failed: int
    late: int
    p50_us: int | None
    p99_us: int | None
    max_us: int | None
    where: str = ""


class FlowTotal(msgspec.Struct, frozen=True):
    """One flow over the whole run."""

    flow: str
    sent: int
    answered: int
    failed: int
    not_sent: int
    causes: dict[str, int]
    p50_us: int | None
    p90_us: int | None
    p99_us: int | None
    p999_us: int | None
    max_us: int | None
    histogram: str
    endpoints: dict[str, int]
    due: int | None = None


class LoadHeader(msgspec.Struct, frozen=True):
    """The requests that a load process was configured to send; `shape` as in `loadtests.shapes`."""

    name: str
    where: str
    flows: tuple[str, ...]
    arrivals_per_second: float
    shape: dict[str, Any]


class Load(msgspec.Struct):
    """All load logs merged; `incomplete` lists those that are truncated or missing, and how."""

    seconds: list[Second] = []
    failures: list[LostRequest] = []
    flows: list[FlowTotal] = []
    cpu_seconds: float = 0.0
    incomplete: list[str] = []
    headers: list[LoadHeader] = []

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return sum(flow.sent for flow in self.flows)

    @property
    def late(self) -> int:
        """Requests that were sent later than due."""
        return sum(second.late for second in self.seconds)

    @property
    def vanished(self) -> int:
        """Requests that were due and have no outcome in the log."""
        return sum(flow.due - flow.sent - flow.not_sent for flow in self.flows if flow.due is not None)

    @property
    def failed(self) -> int:
        """Requests that were sent and lost."""
        return sum(flow.failed for flow in self.flows)

    @property
    def not_sent(self) -> int:
        """Requests that were due but not sent, as too many were in flight."""
        return sum(flow.not_sent for flow in self.flows)

    def latency_us(self, percentile: float) -> int | None:
        """Percentile over all answered requests, from when each was due; None if none was answered."""
        merged = self._histogram()
        return merged.get_value_at_percentile(percentile) if merged.get_total_count() else None

    def held(self, within_us: int) -> float | None:
        """The share of due requests that were answered within that time; None if none was due."""
        due = self.sent + self.not_sent
        recorded = self._histogram().get_recorded_iterator()
        return (
            sum(v.count_at_value_iterated_to for v in recorded if v.value_iterated_to <= within_us) / due
            if due
            else None
        )

    def _histogram(self) -> HdrHistogram:
        merged = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        for flow in self.flows:
            merged.add(HdrHistogram.decode(flow.histogram))
        return merged


class Facts(msgspec.Struct):
    """The input of a verdict; `run` is run.json."""

    folder: Path
    run: RunFacts
    load: Load
    unready: dict[str, list[float]]
    """By pod: when its condition Ready became False."""
    left: dict[str, list[float]] = {}
    """By pod: when it stopped being a ready endpoint of the slices."""
    offered: dict[str, list[tuple[float, float]]] = {}
    """By pod: the intervals in which it was a ready endpoint of the slices."""
    homes: dict[str, str] = {}
    """By pod: its node."""
    terminated: dict[str, list[tuple[float, float]]] = {}
    """By pod: from when its endpoint was terminating until no slice contained it."""
    journal: dict[str, Any] | None = None
    """Chaos Toolkit's journal, if it ran the experiment."""


def has_facts(folder: Path) -> bool:
    """Whether the run has written its facts, valid or not."""
    return (folder / "run.json").exists()


def read_facts(folder: Path) -> Facts:
    """Raises FactsError if the run left no facts."""
    path = folder / "run.json"
    try:
        run = _run_facts(path.read_bytes())
    except OSError as error:
        raise FactsError(f"{path}: {error.strerror}; the run did not end properly") from None
    except msgspec.ValidationError as error:
        raise FactsError(f"{path}: {error}") from None
    except msgspec.DecodeError as error:
        raise FactsError(f"{path}: {error}; the run did not end properly") from None
    try:
        return _read(folder, run)
    except msgspec.ValidationError as error:
        raise FactsError(f"{folder}: {error}") from None


class _Versioned(msgspec.Struct):
    version: int


def _run_facts(content: bytes) -> RunFacts:
    version = msgspec.json.decode(content, type=_Versioned).version
    if version != VERSION:
        raise msgspec.ValidationError(f"version {version!r}; this harness reads {VERSION}")
    run = msgspec.json.decode(content, type=RunFacts)
    if run.cluster:
        run.lab = None  # empty in files of earlier versions
    return run


def _read(folder: Path, run: RunFacts) -> Facts:
    load = Load(seconds=[], failures=[], flows=[], incomplete=[], headers=[])
    for file in run.load:
        read_load(folder / file.file, file, run.began_monotonic_ns, load)
    journal = read_journal(folder) if run.journal else None
    return Facts(folder, run, load, **_endpoints(folder / "events.jsonl"), journal=journal)


def read_load(path: Path, process: LoadFile, began_ns: int, load: Load) -> None:
    """Add one log; its defects go to `incomplete`."""
    ended = False
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        load.incomplete.append(f"{process.name}: {error.strerror}")
        return
    for line in lines:
        try:
            row = msgspec.json.decode(line)
        except msgspec.DecodeError:
            load.incomplete.append(f"{process.name}: its log is truncated")
            return
        kind = row.pop("kind")
        if kind in ("second", "failure"):
            row["at"] = (row.pop("at_ns") - began_ns) / 1e9
        if kind == "header":
            load.headers.append(msgspec.convert(row, LoadHeader))
        elif kind == "second":
            row["where"] = process.where
            load.seconds.append(msgspec.convert(row, Second))
        elif kind == "failure":
            row["ended"], row["where"] = (row.pop("ended_ns") - began_ns) / 1e9, process.where
            load.failures.append(msgspec.convert(row, LostRequest))
        elif kind == "flow":
            load.flows.append(msgspec.convert(row, FlowTotal))
        elif kind == "end":
            ended = True
            load.cpu_seconds += row["cpu_seconds"]
    if not ended:
        load.incomplete.append(f"{process.name}: its log has no end (exit code {process.exit_code})")
    elif process.exit_code:
        load.incomplete.append(f"{process.name}: it ended with exit code {process.exit_code}")


def _endpoints(path: Path) -> dict[str, JsonObject]:
    """From the recording: `unready`, `left`, `offered` and `homes` of `Facts`."""
    ready: set[str] = set()
    slices: dict[str, set[str]] = {}
    unready: dict[str, list[float]] = {}
    offered: dict[str, list[tuple[float, float]]] = {}
    homes: dict[str, str] = {}
    ending: dict[str, dict[str, float]] = {}
    terminated: dict[str, list[tuple[float, float]]] = {}
    with open_source(path) as recording:
        for event in recording:
            if event.type not in OBJECT_TYPES or event.resource not in ("pods", "endpointslices"):
                continue
            manifest, at = msgspec.json.decode(event.object), event.t / 1e9
            name, gone = manifest["metadata"]["name"], event.type == "DELETED"
            if event.resource == "pods":
                was, ready = ready, ready - {name} | (set() if gone or not _is_ready(manifest) else {name})
                for pod in was - ready:
                    unready.setdefault(pod, []).append(at)
                homes[name] = (manifest.get("spec") or {}).get("nodeName") or ""
                continue
            now_ending = set() if gone else _endpoints_that(manifest, "terminating")
            for pod in ending.get(name, {}).keys() - now_ending:
                terminated.setdefault(pod, []).append((ending[name].pop(pod), at))
            for pod in now_ending:
                ending.setdefault(name, {}).setdefault(pod, at)
            was = set().union(*slices.values())
            slices[name] = set() if gone else _ready_endpoints(manifest)
            now = set().union(*slices.values())
            for pod in now - was:
                offered.setdefault(pod, []).append((at, math.inf))
            for pod in was - now:
                offered[pod][-1] = (offered[pod][-1][0], at)
    left = {pod: [end for _, end in spans if end < math.inf] for pod, spans in offered.items()}
    for spans in ending.values():
        for pod, since in spans.items():
            terminated.setdefault(pod, []).append((since, math.inf))
    return {"unready": unready, "left": left, "offered": offered, "homes": homes, "terminated": terminated}


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _ready_endpoints(manifest: Manifest) -> set[str]:
    """Names of the ready pods; a missing condition means ready, as the API specifies."""
    return _endpoints_that(manifest, "ready", True)


def _endpoints_that(manifest: Manifest, condition: str, missing: bool = False) -> set[str]:
    endpoints = [e for e in manifest.get("endpoints") or () if _condition(e, condition, missing)]
    return {e["targetRef"]["name"] for e in endpoints if (e.get("targetRef") or {}).get("kind") == "Pod"}


def _condition(endpoint: Manifest, name: str, missing: bool) -> bool:
    value = (endpoint.get("conditions") or {}).get(name)
    return missing if value is None else value
