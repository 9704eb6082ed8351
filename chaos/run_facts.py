"""The contents of run.json as values: the session writes them, the verdict reads them.  Pure.

Times are seconds on the event log's clock, unless their names say otherwise.
"""

from __future__ import annotations

import msgspec

from chaos.load_options import LoadOptions
from chaos.objectives import Objectives
from chaos.perform import StepResult
from chaos.plan import Plan
from harness.lab.answers import EngineUsage, Moments, Observation
from harness.lab.topology import LabOptions

VERSION = 1
Differences = dict[str, list[str]]
"""By node, the differences of its complete kernel state from the API."""


class ExperimentFacts(msgspec.Struct, frozen=True):
    """The experiment of the run, and its file."""

    title: str
    description: str
    file: str


class Environment(msgspec.Struct, frozen=True):
    """The machine and the software of the run."""

    kernel: str
    python: str
    cpus: int | None
    harness: str


class ClusterLimits(msgspec.Struct, frozen=True):
    """The objects that faults were allowed to affect."""

    namespaces: tuple[str, ...]
    max_pods_percent: float
    max_nodes: int


class ClusterFacts(msgspec.Struct, frozen=True):
    """The real cluster of a run."""

    server: str
    context: str
    namespace: str
    service: str
    limits: ClusterLimits


class KafkaFacts(msgspec.Struct, frozen=True):
    """The event log's copy on Kafka: `complete` if it equals the file."""

    topic: str
    events: int
    complete: bool
    error: str = ""


class UsageSample(msgspec.Struct, frozen=True):
    """The resources used by each node's engine at one time."""

    at: float
    engines: dict[str, EngineUsage]


class LoadFile(msgspec.Struct, frozen=True):
    """The log of one load process, relative to the run's folder."""

    name: str
    file: str
    exit_code: int
    where: str = ""


class StageFacts(msgspec.Struct, kw_only=True):
    """A stage's facts at a run's end: a lab's options, or a `cluster`.

    `unseen` is why kernels cannot be observed, `troubles` are reasons why the run proves nothing.  `transactions` and
    `rewrites` are by node, None if they are not announced.
    """

    mode: str
    began_monotonic_ns: int
    seconds: float
    observations: list[Observation]
    lab: LabOptions | None
    cluster: ClusterFacts | None = None
    transactions: dict[str, Moments | None] = {}
    rewrites: dict[str, list[float] | None] = {}
    kafka: KafkaFacts | None = None
    unseen: str = ""
    troubles: list[str] = []


class RunFacts(StageFacts, kw_only=True):
    """The whole of run.json.

    `usage` has a sample after warm-up and after each fault; `journal`: Chaos Toolkit ran the experiment, and left one.
    """

    version: int = VERSION
    experiment: ExperimentFacts
    seed: int
    environment: Environment
    baseline_seconds: float = 0.0
    plan: Plan | None
    performed: list[StepResult]
    skipped: dict[int, str] = {}
    usage: list[UsageSample]
    kernels_before: Differences | None = None
    kernels_after: Differences | None | msgspec.UnsetType = msgspec.UNSET
    load_options: LoadOptions = LoadOptions()
    load: list[LoadFile]
    objectives: Objectives
    finished: bool
    journal: bool = False
