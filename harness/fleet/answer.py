"""The result for a whole fleet: figures of every scenario, the changes and the nodes."""

from __future__ import annotations

import resource as process
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.fleet.latency import MICROSECONDS, summary
from harness.fleet.result import (
    ChangeReach,
    ComputedBy,
    DeadEndpoint,
    DeadEndpointFigures,
    FleetChange,
    FleetEngine,
    FleetInitialSync,
    FleetNode,
    FleetRecording,
    FleetResult,
    Heat,
    HeatRow,
    NodeCounts,
    SampledNode,
    ScenarioFigures,
    SyncCost,
)
from harness.fleet.share import HEAT_COLUMNS, NodeFigures, Share
from harness.fleet.spread import Done
from harness.fleet.stage import NS, PreparedScenario
from harness.replay.result import KINDS, Bin, ChangeGroup

MOST_HEAT_ROWS = 120
BINS_A_DECADE = 6


def answer(source: str, done: Done, samples: list[SampledNode], seconds: float) -> FleetResult:
    """The result, without objectives; `source` as given; the first scenario is the recording itself."""
    tape, stage, share = done.tape, done.stages[0], done.shares[0]
    place = {node: number for number, node in enumerate(done.nodes)}
    ordered = sorted(share.nodes, key=lambda each: place[each.node])
    cost = SyncCost(stage.cost.fixed, stage.cost.per_operation)
    return FleetResult(
        recording=FleetRecording(
            source, tape.sha256, stage.services, stage.endpoints, tape.events, len(tape.nodes), list(tape.late)
        ),
        engine=FleetEngine(stage.settings.mode, stage.scenario.min_sync_period / NS, cost),
        views=len(done.nodes),
        zones=dict(Counter(each.zone for each in share.nodes)),
        computed_by=ComputedBy(done.engine, done.workers, done.lost, done.views_seconds, seconds, _peak()),
        columns=[column(*each) for each in zip(done.stages, done.shares, strict=True)],
        changes=list(_changes(stage, share)),
        nodes=[_node(each) for each in ordered],
        heat=heat(stage, share),
        samples=samples,
        objectives=[],
    )


def _peak() -> int:
    """Peak resident memory in bytes, of this process and of its largest worker."""
    return sum(process.getrusage(who).ru_maxrss for who in (process.RUSAGE_SELF, process.RUSAGE_CHILDREN)) * 1024


def column(stage: PreparedScenario, share: Share) -> ScenarioFigures:
    """The figures of one scenario."""
    nodes = share.nodes
    everything = added(share.latencies.values())
    touched = share.touched.nodes
    dead = list(_dead(stage, share))
    return ScenarioFigures(
        name=stage.scenario.name,
        min_sync_period_seconds=stage.scenario.min_sync_period / NS,
        syncs=sum(each.syncs for each in nodes),
        syncs_for_nothing=sum(each.for_nothing for each in nodes),
        operations=sum(each.operations for each in nodes),
        bytes=sum(each.bytes for each in nodes),
        work_seconds=sum(each.work_seconds for each in nodes),
        initial=FleetInitialSync(
            sum(each.initial_operations for each in nodes), sum(each.initial_bytes for each in nodes)
        ),
        watch_bytes=len(nodes) * sum(change.bytes for change in stage.changes),
        changes=ChangeReach(len(stage.times), touched.count(0), _spread(sorted(count for count in touched if count))),
        convergence_seconds=summary(everything),
        convergence_histogram=histogram(everything),
        by_zone={zone: _group(share, zone=zone) for zone in sorted({each.zone for each in nodes})},
        by_kind={kind: _group(share, kind=kind) for kind in KINDS},
        dead_endpoints=DeadEndpointFigures(
            sum(each.endpoints for each in dead),
            summary(_times(dead)),
            max(dead, key=lambda each: each.seconds, default=None),
        ),
    )


def added(counts: Iterable[Counter[int]]) -> Counter[int]:
    """The sum of several counts."""
    total: Counter[int] = Counter()
    for each in counts:
        total.update(each)
    return total


def _group(share: Share, zone: str | None = None, kind: str | None = None) -> ChangeGroup:
    mine = added(c for (z, k), c in share.latencies.items() if zone in (None, z) and kind in (None, k))
    return ChangeGroup(sum(mine.values()), summary(mine))


def _spread(ordered: Sequence[int]) -> NodeCounts | None:
    """Median and maximum."""
    return NodeCounts(ordered[(len(ordered) - 1) // 2], ordered[-1]) if ordered else None


def histogram(counts: Counter[int]) -> list[Bin]:
    """A histogram with BINS_A_DECADE logarithmic bins per decade, from the first bin that is not empty to the last."""
    bins: Counter[int] = Counter()
    for micros, count in counts.items():
        bins[next(n for n in range(1000) if _end(n) * MICROSECONDS >= micros * (1 - 1e-9))] += count
    if not bins:
        return []
    return [Bin(_end(n - 1) if n else 0.0, _end(n), bins[n]) for n in range(min(bins), max(bins) + 1)]


def _end(number: int) -> float:
    """The upper bound of a bin, in seconds; bin 0 ends at a millisecond."""
    return float(f"{10 ** (number / BINS_A_DECADE - 3):.3g}")


def _times(dead: Iterable[DeadEndpoint]) -> Counter[int]:
    times: Counter[int] = Counter()
    for each in dead:
        times[round(each.seconds * MICROSECONDS)] += each.endpoints
    return times


def _dead(stage: PreparedScenario, share: Share) -> Iterable[DeadEndpoint]:
    """Endpoints that died while some node's rules still led to them, and for how long.

    That ends with the last node's sync, or when the endpoint is back, if that is earlier.
    """
    changes, due = stage.changes, stage.due
    for each in stage.dead:
        died, touched = stage.times[each.change], share.touched.nodes[each.change]
        back = None if each.back is None else (each.back - died) / NS
        if not touched and (each.back is None or each.back > due[each.change]):
            continue  # no rule led to them, or they were back before the sync after their death
        last = share.touched.last_micros[each.change] / MICROSECONDS if touched else float("inf")
        yield DeadEndpoint(
            changes[each.change].origin,
            died / NS,
            str(each.service),
            each.endpoints,
            min(last, back if back is not None else last),
            share.touched.last_node[each.change],
        )


def _changes(stage: PreparedScenario, share: Share) -> Iterable[FleetChange]:
    touched = share.touched
    for number, change in enumerate(stage.changes):
        if touched.nodes[number]:
            yield FleetChange(
                change.origin,
                change.event.t / NS,
                stage.kinds[number],
                str(change.service or ""),
                touched.nodes[number],
                touched.last_node[number],
                touched.last_micros[number] / MICROSECONDS,
            )


def _node(each: NodeFigures) -> FleetNode:
    return FleetNode(
        node=each.node,
        zone=each.zone,
        digest=each.digest,
        changes=each.changes,
        syncs=each.syncs,
        syncs_for_nothing=each.for_nothing,
        operations=each.operations,
        bytes=each.bytes,
        initial_bytes=each.initial_bytes,
        convergence_seconds=each.convergence,
    )


def heat(stage: PreparedScenario, share: Share) -> Heat:
    """Operations by node and interval, ordered by zone; many nodes are grouped, with the mean of each group."""
    ordered = sorted(share.nodes, key=lambda each: (each.zone, each.node))
    size = max(1, -(-len(ordered) // MOST_HEAT_ROWS))
    groups = [ordered[first : first + size] for first in range(0, len(ordered), size)]
    began, ended = (stage.batches[n].due / NS if stage.batches else 0.0 for n in (0, -1))
    rows = [
        HeatRow(
            group[0].node,
            group[-1].node,
            group[0].zone,
            [sum(values) / len(group) for values in zip(*(each.heat for each in group), strict=True)],
        )
        for group in groups
    ]
    return Heat(began, (ended - began) / (HEAT_COLUMNS - 1), rows)
