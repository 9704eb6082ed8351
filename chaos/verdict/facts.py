"""A run's folder, read: run.json, load logs, the recording. Times in seconds on the log's clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram

from chaos.objectives import Objectives
from chaos.perform import Performed
from harness.events import OBJECT_TYPES
from harness.recording import open_source

NEEDED = {
    "experiment", "seed", "mode", "environment", "lab", "began_monotonic_ns", "plan", "performed", "observations",
    "engine_cpu_seconds", "seconds", "load", "objectives", "finished",
}  # fmt: skip
LOWEST_US, HIGHEST_US, DIGITS = 1, 60_000_000, 3


class FactsError(ValueError):
    """A folder that is no run's, or whose files cannot be read; the message says which and why."""


class Observation(msgspec.Struct, frozen=True):
    """When a node's kernel took an address in (`wanted`) or let go of it.

    `seen` None: it had not by `until`, when the contrary was asked of it or nobody waited any longer.
    """

    node: str
    address: str
    wanted: bool
    asked: float
    seen: float | None
    until: float

    @property
    def seconds(self) -> float:
        """How long it took, at least."""
        return self.until - self.asked


class Failure(msgspec.Struct, frozen=True):
    """A request that was lost: when it was meant to be sent and when that was known, why, and to whom it went."""

    at: float
    ended: float
    flow: str
    cause: str
    via: str
    node: str | None = None
    endpoint: str | None = None
    pod: str | None = None


class Second(msgspec.Struct, frozen=True):
    """One second of one flow, by the intended time of sending."""

    at: float
    flow: str
    sent: int
    answered: int
    failed: int
    late: int
    p50_us: int | None
    p99_us: int | None
    max_us: int | None


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


class Load(msgspec.Struct):
    """All load logs together; `incomplete` names those that were cut off or are missing, and how."""

    seconds: list[Second] = []
    failures: list[Failure] = []
    flows: list[FlowTotal] = []
    cpu_seconds: float = 0.0
    incomplete: list[str] = []
    headers: list[dict[str, Any]] = []

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return sum(flow.sent for flow in self.flows)

    @property
    def failed(self) -> int:
        """Requests that were sent and lost."""
        return sum(flow.failed for flow in self.flows)

    @property
    def not_sent(self) -> int:
        """Requests that were due but not sent, as too many were under way."""
        return sum(flow.not_sent for flow in self.flows)

    def latency_us(self, percentile: float) -> int | None:
        """Of all answered requests, from their intended time; None when nothing was answered."""
        merged = self._histogram()
        return merged.get_value_at_percentile(percentile) if merged.get_total_count() else None

    def held(self, within_us: int) -> float | None:
        """The part of all requests due that were answered so soon after they were; None when none was due."""
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
    """Everything that a verdict is made from; `raw` is run.json as it is."""

    folder: Path
    raw: dict[str, Any]
    objectives: Objectives
    performed: list[Performed]
    observations: list[Observation]
    load: Load
    unready: dict[str, list[float]]
    """By pod: when its condition Ready became False."""
    left: dict[str, list[float]] = {}
    """By pod: when it stopped being a ready endpoint of the slices."""


def read_facts(folder: Path) -> Facts:
    """FactsError when the run left no facts."""
    try:
        raw = msgspec.json.decode((folder / "run.json").read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise FactsError(f"{folder}/run.json: {why}; the run did not get as far as its end") from None
    if not isinstance(raw, dict):
        raise FactsError(f"{folder}/run.json: an object is needed, not {type(raw).__name__}")
    version = raw.get("version")
    if version != 1:
        raise FactsError(f"{folder}/run.json: version {version!r}; this harness reads 1")
    if missing := sorted(NEEDED - raw.keys()):
        raise FactsError(f"{folder}/run.json: without {', '.join(missing)}")
    try:
        return _read(folder, raw)
    except msgspec.ValidationError as error:
        raise FactsError(f"{folder}: {error}") from None


def _read(folder: Path, raw: dict[str, Any]) -> Facts:
    load = Load(seconds=[], failures=[], flows=[], incomplete=[], headers=[])
    for process in raw["load"]:
        read_load(folder / process["file"], process, raw["began_monotonic_ns"], load)
    return Facts(
        folder,
        raw,
        msgspec.convert(raw["objectives"], Objectives),
        msgspec.convert(raw["performed"], list[Performed]),
        msgspec.convert(raw["observations"], list[Observation]),
        load,
        *_lost(folder / "events.jsonl"),
    )


def read_load(path: Path, process: dict[str, Any], began_ns: int, load: Load) -> None:
    """Add one log; what is wrong with it goes to `incomplete`."""
    ended = False
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        load.incomplete.append(f"{process['name']}: {error.strerror}")
        return
    for line in lines:
        try:
            row = msgspec.json.decode(line)
        except msgspec.DecodeError:
            load.incomplete.append(f"{process['name']}: its log is cut off")
            return
        kind = row.pop("kind")
        if kind in ("second", "failure"):
            row["at"] = (row.pop("at_ns") - began_ns) / 1e9
        if kind == "header":
            load.headers.append(row)
        elif kind == "second":
            load.seconds.append(msgspec.convert(row, Second))
        elif kind == "failure":
            row["ended"] = (row.pop("ended_ns") - began_ns) / 1e9
            load.failures.append(msgspec.convert(row, Failure))
        elif kind == "flow":
            load.flows.append(msgspec.convert(row, FlowTotal))
        elif kind == "end":
            ended = True
            load.cpu_seconds += row["cpu_seconds"]
    if not ended:
        load.incomplete.append(f"{process['name']}: it ended before its log did (exit code {process['exit_code']})")


def _lost(path: Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """By pod, from the recording: when it lost its readiness, and when its last slice lost it as a ready endpoint."""
    ready: set[str] = set()
    slices: dict[str, set[str]] = {}
    unready: dict[str, list[float]] = {}
    left: dict[str, list[float]] = {}
    with open_source(path) as recording:
        for event in recording:
            if event.type not in OBJECT_TYPES or event.resource not in ("pods", "endpointslices"):
                continue
            manifest = msgspec.json.decode(event.object)
            name, gone = manifest["metadata"]["name"], event.type == "DELETED"
            if event.resource == "pods":
                was, ready = ready, ready - {name} | (set() if gone or not _is_ready(manifest) else {name})
                lost, into = was - ready, unready
            else:
                was = set().union(*slices.values())
                slices[name] = set() if gone else _ready_endpoints(manifest)
                lost, into = was - set().union(*slices.values()), left
            for pod in lost:
                into.setdefault(pod, []).append(event.t / 1e9)
    return unready, left


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _ready_endpoints(manifest: dict[str, Any]) -> set[str]:
    """Names of the pods that are ready; a missing condition is ready, as the API has it."""
    endpoints = [e for e in manifest.get("endpoints") or () if (e.get("conditions") or {}).get("ready") is not False]
    return {e["targetRef"]["name"] for e in endpoints if (e.get("targetRef") or {}).get("kind") == "Pod"}
