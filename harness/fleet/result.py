"""The results for a fleet: what `harness fleet --json` and `harness tune --json` write (docs/fleet.md, docs/tune.md).

Seconds are on the recording's clock, sizes are bytes.
"""

from __future__ import annotations

from msgspec import Struct

from harness.replay.result import Bin, ChangeGroup, Objective, Percentiles, Verdict


class FleetRecording(Struct, frozen=True):
    """The recording; `services`, `endpoints` and `nodes` as of the end of the initial list."""

    path: str
    sha256: str
    services: int
    endpoints: int
    events: int
    nodes: int
    joined_later: list[str]


class SyncCost(Struct, frozen=True):
    """The assumed cost of a sync."""

    fixed_seconds: float
    per_operation_seconds: float


class FleetEngine(Struct, frozen=True):
    """The engine's settings."""

    mode: str
    min_sync_period_seconds: float
    cost: SyncCost


class ComputedBy(Struct, frozen=True):
    """The processes that computed the views, how many of them were lost, and the time on their clock."""

    engine: str
    workers: int
    lost: int
    views_seconds: float
    seconds: float
    peak_rss_bytes: int


class FleetInitialSync(Struct, frozen=True):
    """The first sync of all nodes."""

    operations: int
    bytes: int


class NodeCounts(Struct, frozen=True):
    """Median and maximum."""

    p50: int
    max: int


class ChangeReach(Struct, frozen=True):
    """Changes, those without an effect on any node, and how many nodes the others had effects on; None without any."""

    count: int
    of_no_node: int
    nodes_each: NodeCounts | None


class DeadEndpoint(Struct, frozen=True):
    """Endpoints that died while some node's rules still led to them, and for how long."""

    seq: int
    at_seconds: float
    service: str
    endpoints: int
    seconds: float
    last_node: str


class DeadEndpointFigures(Struct, frozen=True):
    """All of them, by endpoint, and the longest one; None without any."""

    count: int
    reachable_seconds: Percentiles | None
    worst: DeadEndpoint | None


class ScenarioFigures(Struct, frozen=True, kw_only=True):
    """The figures of one scenario, over all nodes; percentiles are p50, p99 and max, None without changes."""

    name: str
    min_sync_period_seconds: float
    syncs: int
    syncs_for_nothing: int
    operations: int
    bytes: int
    work_seconds: float
    initial: FleetInitialSync
    watch_bytes: int
    changes: ChangeReach
    convergence_seconds: Percentiles | None
    convergence_histogram: list[Bin]
    by_zone: dict[str, ChangeGroup]
    by_kind: dict[str, ChangeGroup]
    dead_endpoints: DeadEndpointFigures


class FleetChange(Struct, frozen=True):
    """One change with effects on `nodes` nodes, and when it was live on the last of them."""

    seq: int
    at_seconds: float
    kind: str
    service: str
    nodes: int
    last_node: str
    last_seconds: float


class FleetNode(Struct, frozen=True, kw_only=True):
    """One node's view; None without changes."""

    node: str
    zone: str
    digest: str
    changes: int
    syncs: int
    syncs_for_nothing: int
    operations: int
    bytes: int
    initial_bytes: int
    convergence_seconds: Percentiles | None


class HeatRow(Struct, frozen=True):
    """A node, or neighbours with their mean: operations by interval."""

    first: str
    last: str
    zone: str
    operations: list[float]


class Heat(Struct, frozen=True):
    """Operations by node and interval."""

    began_seconds: float
    step_seconds: float
    rows: list[HeatRow]


class SampledNode(Struct, frozen=True):
    """One node: the digest of its view, and the result of its replay in `kernel`; `verified` as in a replay.

    Seconds are measured by that replay: its initial convergence, and the p99 of compute and apply, None without
    changes.  `agrees`: view and replay are equal, and the kernel's state was correct as far as it was checked.
    """

    node: str
    kernel: str
    view_digest: str
    replay_digest: str
    verified: Verdict
    differences: int
    initial_seconds: float
    work_p99_seconds: float | None
    agrees: bool


class FleetResult(Struct, frozen=True, kw_only=True):
    """The whole fleet; the first of `columns` is the recording itself, and `zones` counts nodes."""

    recording: FleetRecording
    engine: FleetEngine
    views: int
    zones: dict[str, int]
    computed_by: ComputedBy
    columns: list[ScenarioFigures]
    changes: list[FleetChange]
    nodes: list[FleetNode]
    heat: Heat
    samples: list[SampledNode]
    objectives: list[Objective]


class SweepPoint(Struct, frozen=True):
    """One minSyncPeriod: syncs after the initial one, their cost, and the convergence of changes."""

    min_sync_period_seconds: float
    syncs: int
    syncs_for_nothing: int
    operations: int
    cpu_seconds: float
    p50_seconds: float
    p99_seconds: float
    max_seconds: float
    knee: bool = False


class SweepRecording(Struct, frozen=True):
    """The replayed recording, and the time between its first and its last change."""

    path: str
    sha256: str
    seconds: float


class Sweep(Struct, frozen=True):
    """Periods in ascending order, on one node."""

    recording: SweepRecording
    mode: str
    node: str
    kernel: str
    method: str
    points: list[SweepPoint]
