"""Aggregated figures of some nodes' views: small enough to be sent, and additive."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.fleet.cost import Cost
from harness.fleet.latency import MICROSECONDS, summary
from harness.fleet.stage import NS, PreparedScenario
from harness.fleet.view import NO_SYNC, SENT_CODE, FleetView
from harness.replay.result import Percentiles

HEAT_COLUMNS = 120
"""Number of intervals in the heat map."""


class NodeFigures(NamedTuple):
    """One node: counts over its run, seconds of its changes, and operations by interval."""

    node: str
    zone: str
    digest: str
    changes: int
    syncs: int
    for_nothing: int
    initial_operations: int
    initial_bytes: int
    operations: int
    bytes: int
    work_seconds: float
    convergence: Percentiles | None
    heat: array[int]


@dataclass
class AffectedNodes:
    """By change: on how many nodes it had effects, and when it was live on the last of them, and which."""

    nodes: list[int]
    last_micros: list[int]
    last_node: list[str]

    @classmethod
    def of(cls, changes: int) -> AffectedNodes:
        """For this many changes, without effects so far."""
        return cls([0] * changes, [-1] * changes, [""] * changes)

    def see(self, number: int, nodes: int, micros: int, node: str) -> None:
        """Add other nodes; of equally late ones, the first name counts."""
        self.nodes[number] += nodes
        if micros > self.last_micros[number] or (micros == self.last_micros[number] and node < self.last_node[number]):
            self.last_micros[number], self.last_node[number] = micros, node


@dataclass
class Share:
    """The sums over views of one scenario; `latencies` are counts of microseconds by (zone, kind of change)."""

    touched: AffectedNodes
    nodes: list[NodeFigures] = field(default_factory=list)
    latencies: dict[tuple[str, str], Counter[int]] = field(default_factory=dict)

    def add(self, other: Share) -> None:
        """Add other nodes' figures; ValueError if one is already included."""
        here = {each.node for each in self.nodes}
        if twice := [each.node for each in other.nodes if each.node in here]:
            raise ValueError(f"counted twice: {', '.join(twice)}")
        self.nodes += other.nodes
        for number, nodes in enumerate(other.touched.nodes):
            if nodes:
                self.touched.see(number, nodes, other.touched.last_micros[number], other.touched.last_node[number])
        for key, counts in other.latencies.items():
            self.latencies.setdefault(key, Counter()).update(counts)


def share_of(stage: PreparedScenario, views: Iterable[FleetView]) -> Share:
    """The figures of these views; their syncs take the time given by `stage.cost`."""
    share = Share(AffectedNodes.of(len(stage.times)))
    place = [number for number, batch in enumerate(stage.batches) for _ in batch.changes]
    waits = [round((stage.batches[place[n]].due - t) * MICROSECONDS / NS) for n, t in enumerate(stage.times)]
    for view in views:
        _add(share, stage, view, place, waits)
    return share


def _add(share: Share, stage: PreparedScenario, view: FleetView, place: list[int], waits: list[int]) -> None:
    """`place` is the batch of each change, `waits` are the microseconds until it was due."""
    lags = [round(lag * MICROSECONDS) for lag in lags_of(stage, view, stage.cost)]
    sent = [number for number, code in enumerate(view.effects) if code == SENT_CODE]
    micros = [waits[number] + lags[place[number]] for number in sent]
    by_kind: dict[str, list[int]] = {}
    for number, each in zip(sent, micros, strict=True):
        by_kind.setdefault(stage.kinds[number], []).append(each)
        share.touched.see(number, 1, each, view.node)
    for kind, found in by_kind.items():
        share.latencies.setdefault((view.zone, kind), Counter()).update(found)
    share.nodes.append(_figures(stage, view, Counter(micros)))


def lags_of(stage: PreparedScenario, view: FleetView, cost: Cost) -> list[float]:
    """Seconds of each batch from when its sync was due to when its rules were live, as in a replay.

    A sync begins when it is due or when the previous one has ended, whichever is later.
    """
    lags, finished = [], 0.0
    for batch, operations in zip(stage.batches, view.operations[1:], strict=True):
        due = batch.due / NS
        if operations == NO_SYNC:
            lags.append(0.0)
            continue
        finished = max(due, finished) + cost.seconds(operations)
        lags.append(finished - due)
    return lags


def _figures(stage: PreparedScenario, view: FleetView, own: Counter[int]) -> NodeFigures:
    churn = view.operations[1:]
    ran = [operations for operations in churn if operations != NO_SYNC]
    return NodeFigures(
        view.node, view.zone, view.digest, sum(own.values()), len(ran), sum(not size for size in _sizes(view)),
        view.operations[0], view.bytes[0], sum(ran), sum(view.bytes[1:]), sum(map(stage.cost.seconds, ran)),
        summary(own), _heat(stage, churn),
    )  # fmt: skip


def _sizes(view: FleetView) -> list[int]:
    """Bytes of each sync after the initial one."""
    return [size for size, ran in zip(view.bytes[1:], view.operations[1:], strict=True) if ran != NO_SYNC]


def _heat(stage: PreparedScenario, churn: array[int]) -> array[int]:
    heat = array("q", [0]) * HEAT_COLUMNS
    if not stage.batches:
        return heat
    began, ended = stage.batches[0].due, stage.batches[-1].due
    for batch, operations in zip(stage.batches, churn, strict=True):
        if operations > 0:
            heat[(batch.due - began) * (HEAT_COLUMNS - 1) // max(1, ended - began)] += operations
    return heat
