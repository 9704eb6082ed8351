"""The result for a whole fleet: figures of every scenario, the changes and the nodes, as JSON (docs/fleet.md)."""

from __future__ import annotations

import resource as process
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from harness.fleet.check import Sampled
from harness.fleet.latency import MICROSECONDS, summary
from harness.fleet.share import HEAT_COLUMNS, Share
from harness.fleet.spread import Done
from harness.fleet.stage import NS, PreparedScenario
from harness.replay.result import KINDS

MOST_HEAT_ROWS = 120
BINS_A_DECADE = 6


def answer(source: str, done: Done, samples: Sequence[Sampled], seconds: float) -> dict[str, Any]:
    """The documented JSON object; `source` as given; the first scenario is the recording itself."""
    tape, stage, share = done.tape, done.stages[0], done.shares[0]
    place = {node: number for number, node in enumerate(done.nodes)}
    ordered = sorted(share.nodes, key=lambda each: place[each.node])
    return {
        "recording": {
            "path": source, "sha256": tape.sha256, "services": stage.services, "endpoints": stage.endpoints,
            "events": tape.events, "nodes": len(tape.nodes), "joined_later": list(tape.late),
        },
        "engine": {
            "mode": stage.settings.mode, "min_sync_period_seconds": stage.scenario.min_sync_period / NS,
            "cost": {"fixed_seconds": stage.cost.fixed, "per_operation_seconds": stage.cost.per_operation},
        },
        "views": len(done.nodes),
        "zones": dict(Counter(each.zone for each in share.nodes)),
        "computed_by": {**done.facts, "seconds": seconds, "peak_rss_bytes": _peak()},
        "columns": [column(*each) for each in zip(done.stages, done.shares, strict=True)],
        "changes": list(_changes(stage, share)),
        "nodes": [_node(each) for each in ordered],
        "heat": heat(stage, share),
        "samples": [{**each._asdict(), "agrees": each.agrees} for each in samples],
        "objectives": [],
    }  # fmt: skip


def _peak() -> int:
    """Peak resident memory in bytes, of this process and of its largest worker."""
    return sum(process.getrusage(who).ru_maxrss for who in (process.RUSAGE_SELF, process.RUSAGE_CHILDREN)) * 1024


def column(stage: PreparedScenario, share: Share) -> dict[str, Any]:
    """The figures of one scenario."""
    nodes = share.nodes
    everything = added(share.latencies.values())
    touched = share.touched.nodes
    dead = list(_dead(stage, share))
    return {
        "name": stage.scenario.name,
        "min_sync_period_seconds": stage.scenario.min_sync_period / NS,
        "syncs": sum(each.syncs for each in nodes),
        "syncs_for_nothing": sum(each.for_nothing for each in nodes),
        "operations": sum(each.operations for each in nodes),
        "bytes": sum(each.bytes for each in nodes),
        "work_seconds": sum(each.work_seconds for each in nodes),
        "initial": {
            "operations": sum(each.initial_operations for each in nodes),
            "bytes": sum(each.initial_bytes for each in nodes),
        },
        "watch_bytes": len(nodes) * sum(change.bytes for change in stage.changes),
        "changes": {
            "count": len(stage.times), "of_no_node": touched.count(0),
            "nodes_each": _spread(sorted(count for count in touched if count)),
        },
        "convergence_seconds": summary(everything),
        "convergence_histogram": histogram(everything),
        "by_zone": {zone: _group(share, zone=zone) for zone in sorted({each.zone for each in nodes})},
        "by_kind": {kind: _group(share, kind=kind) for kind in KINDS},
        "dead_endpoints": {
            "count": sum(each["endpoints"] for each in dead),
            "reachable_seconds": summary(_times(dead)),
            "worst": max(dead, key=lambda each: each["seconds"], default=None),
        },
    }  # fmt: skip


def added(counts: Iterable[Counter[int]]) -> Counter[int]:
    """The sum of several counts."""
    total: Counter[int] = Counter()
    for each in counts:
        total.update(each)
    return total


def _group(share: Share, zone: str | None = None, kind: str | None = None) -> dict[str, Any]:
    mine = added(c for (z, k), c in share.latencies.items() if zone in (None, z) and kind in (None, k))
    return {"count": sum(mine.values()), "convergence_seconds": summary(mine)}


def _spread(ordered: Sequence[int]) -> dict[str, int] | None:
    """Median and maximum."""
    return {"p50": ordered[(len(ordered) - 1) // 2], "max": ordered[-1]} if ordered else None


def histogram(counts: Counter[int]) -> list[dict[str, float]]:
    """A histogram with BINS_A_DECADE logarithmic bins per decade, from the first bin that is not empty to the last."""
    bins: Counter[int] = Counter()
    for micros, count in counts.items():
        bins[next(n for n in range(1000) if _end(n) * MICROSECONDS >= micros * (1 - 1e-9))] += count
    if not bins:
        return []
    return [
        {"above_seconds": _end(n - 1) if n else 0.0, "up_to_seconds": _end(n), "count": bins[n]}
        for n in range(min(bins), max(bins) + 1)
    ]


def _end(number: int) -> float:
    """The upper bound of a bin, in seconds; bin 0 ends at a millisecond."""
    return float(f"{10 ** (number / BINS_A_DECADE - 3):.3g}")


def _times(dead: Iterable[dict[str, Any]]) -> Counter[int]:
    times: Counter[int] = Counter()
    for each in dead:
        times[round(each["seconds"] * MICROSECONDS)] += each["endpoints"]
    return times


def _dead(stage: PreparedScenario, share: Share) -> Iterable[dict[str, Any]]:
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
        yield {
            "seq": changes[each.change].origin, "at_seconds": died / NS, "service": str(each.service),
            "endpoints": each.endpoints, "seconds": min(last, back if back is not None else last),
            "last_node": share.touched.last_node[each.change],
        }  # fmt: skip


def _changes(stage: PreparedScenario, share: Share) -> Iterable[dict[str, Any]]:
    for number, change in enumerate(stage.changes):
        if share.touched.nodes[number]:
            yield {
                "seq": change.origin, "at_seconds": change.event.t / NS, "kind": stage.kinds[number],
                "service": str(change.service or ""), "nodes": share.touched.nodes[number],
                "last_node": share.touched.last_node[number],
                "last_seconds": share.touched.last_micros[number] / MICROSECONDS,
            }  # fmt: skip


def _node(each: Any) -> dict[str, Any]:
    return {
        "node": each.node, "zone": each.zone, "digest": each.digest, "changes": each.changes, "syncs": each.syncs,
        "syncs_for_nothing": each.for_nothing, "operations": each.operations, "bytes": each.bytes,
        "initial_bytes": each.initial_bytes,
        "convergence_seconds": None if each.most is None else {"p50": each.p50, "p99": each.p99, "max": each.most},
    }  # fmt: skip


def heat(stage: PreparedScenario, share: Share) -> dict[str, Any]:
    """Operations by node and interval, ordered by zone; many nodes are grouped, with the mean of each group."""
    ordered = sorted(share.nodes, key=lambda each: (each.zone, each.node))
    size = max(1, -(-len(ordered) // MOST_HEAT_ROWS))
    groups = [ordered[first : first + size] for first in range(0, len(ordered), size)]
    began, ended = (stage.batches[n].due / NS if stage.batches else 0.0 for n in (0, -1))
    return {
        "began_seconds": began,
        "step_seconds": (ended - began) / (HEAT_COLUMNS - 1),
        "rows": [
            {
                "first": group[0].node, "last": group[-1].node, "zone": group[0].zone,
                "operations": [sum(values) / len(group) for values in zip(*(g.heat for g in group), strict=True)],
            }
            for group in groups
        ],
    }  # fmt: skip
