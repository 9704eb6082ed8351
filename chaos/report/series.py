"""A run over time, aggregated to a few hundred values whatever its length: the input of the timeline.  Pure.

facts -> Timeline: requests and latency per bucket, each node's lag behind changes of the slices, readiness lost, the
faults' windows.  Times are in seconds on the log's clock.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from chaos.perform import StepResult
from chaos.verdict.facts import Facts, LostRequest, Second
from harness.html.scales import TIME_STEPS

MOST_BUCKETS = 150
MOST_CHANGES = 600
MOST_CAUSES = 6
OTHER = "other causes"


class Bucket(NamedTuple):
    """One interval of the run: requests and latency.

    `p50_ms` is the median over the flows' medians of each second, weighted by answers; `p99_ms` that of the worst flow
    in the worst second, so that no outlier is averaged away.
    """

    at: float
    seconds: float
    sent: int = 0
    lost: tuple[tuple[str, int], ...] = ()
    p50_ms: float | None = None
    p99_ms: float | None = None

    @property
    def rate(self) -> float:
        """Requests sent per second."""
        return self.sent / self.seconds

    @property
    def lost_in_all(self) -> int:
        """Requests lost, of all causes."""
        return sum(count for _, count in self.lost)


class FollowedChange(NamedTuple):
    """The slowest of several changes of one kind, close together, that a node's kernel had to follow.

    `lag` is the time it took; if it had not `followed` when the change was undone or the wait ended, the time until
    then.
    """

    node: str
    at: float
    wanted: bool
    lag: float
    followed: bool
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not used on rows
    addresses: tuple[str, ...]


class ReadinessLoss(NamedTuple):
    """Pods that lost their readiness close together."""

    at: float
    pods: tuple[str, ...]


class FaultWindow(NamedTuple):
    """One fault's window: injected at `began`, healed at `healed`, cluster restored at `settled`."""

    number: int
    fault: str
    began: float
    healed: float
    settled: float
    lost: int
    sound: bool
    whom: tuple[str, ...]


class ReportTimeline(NamedTuple):
    """Everything that is drawn over time."""

    began: float
    ended: float
    buckets: tuple[Bucket, ...]
    causes: tuple[str, ...]
    nodes: tuple[str, ...]
    changes: tuple[FollowedChange, ...]
    unready: tuple[ReadinessLoss, ...]
    windows: tuple[FaultWindow, ...]


def timeline(facts: Facts, lost_by_fault: dict[int, int]) -> ReportTimeline:
    """From the first second of load to the end of the run; without load, from the run's beginning."""
    ended = max([facts.run.seconds, *(s.at + 1 for s in facts.load.seconds)])
    began = min([s.at for s in facts.load.seconds] or [0.0])
    step = next(
        (s for s in TIME_STEPS if s >= 1 and (ended - began) / s <= MOST_BUCKETS), (ended - began) / MOST_BUCKETS
    )
    causes = _causes(facts.load.failures)
    nodes = _nodes(facts)
    wide_step = step * math.ceil(len(nodes) * (ended - began) / step / MOST_CHANGES)
    return ReportTimeline(
        began, ended,
        _buckets(facts.load.seconds, facts.load.failures, causes, began, ended, step),
        causes,
        tuple(nodes),
        tuple(_changes(facts, began, wide_step or step)),
        tuple(_unready(facts.unready, began, step)),
        tuple(_window(done, lost_by_fault.get(done.number, 0)) for done in facts.run.performed),
    )  # fmt: skip


def _causes(failures: Iterable[LostRequest]) -> tuple[str, ...]:
    """Most frequent first; beyond a limit the rest is merged into one."""
    ordered = sorted(Counter(f.cause for f in failures).items(), key=lambda item: (-item[1], item[0]))
    known = [cause for cause, _ in ordered]
    return tuple(known if len(known) <= MOST_CAUSES else [*known[: MOST_CAUSES - 1], OTHER])


def _buckets(
    rows: list[Second], failures: list[LostRequest], causes: tuple[str, ...], began: float, ended: float, step: float
) -> tuple[Bucket, ...]:
    count = max(1, math.ceil((ended - began) / step - 1e-9))
    seconds: list[list[Second]] = [[] for _ in range(count)]
    lost: list[Counter[str]] = [Counter() for _ in range(count)]
    for row in rows:
        seconds[_place(row.at, began, step, count)].append(row)
    for failure in failures:
        cause = failure.cause if failure.cause in causes else OTHER
        lost[_place(failure.at, began, step, count)][cause] += 1
    return tuple(
        _bucket(began + n * step, step, seconds[n], tuple((c, lost[n][c]) for c in causes if lost[n][c]))
        for n in range(count)
    )


def _place(at: float, began: float, step: float, count: int) -> int:
    return min(count - 1, max(0, int((at - began) / step + 1e-9)))


def _bucket(at: float, step: float, rows: list[Second], lost: tuple[tuple[str, int], ...]) -> Bucket:
    medians = sorted((row.p50_us, row.answered) for row in rows if row.p50_us is not None)
    worst = max((row.p99_us for row in rows if row.p99_us is not None), default=None)
    half, seen, middle = sum(weight for _, weight in medians) / 2, 0, None
    for value, weight in medians:
        seen += weight
        middle = value
        if seen >= half:
            break
    return Bucket(at, step, sum(r.sent for r in rows), lost, _ms(middle), _ms(worst))


def _ms(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1000


def _nodes(facts: Facts) -> list[str]:
    planned = facts.run.plan.cluster.nodes if facts.run.plan else []
    return sorted({*planned, *(o.node for o in facts.run.observations)}, key=natural)


def natural(name: str) -> tuple[str, int, str]:
    """Sorts node-2 before node-10."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0), name


def _changes(facts: Facts, began: float, step: float) -> Iterable[FollowedChange]:
    close = defaultdict(list)
    for o in facts.run.observations:
        if o.asked >= began:
            close[o.node, int((o.asked - began) / step), o.wanted, o.seen is not None].append(o)
    for node, bucket, wanted, followed in sorted(close, key=lambda key: (natural(key[0]), *key[1:])):
        these = close[node, bucket, wanted, followed]
        slowest = max(these, key=lambda o: o.seconds)
        addresses = tuple(sorted({o.address for o in these}))
        yield FollowedChange(node, slowest.asked, wanted, max(0.0, slowest.seconds), followed, len(these), addresses)


def _unready(by_pod: dict[str, list[float]], began: float, step: float) -> Iterable[ReadinessLoss]:
    close = defaultdict(list)
    for pod, times in by_pod.items():
        for at in times:
            if at >= began:
                close[int((at - began) / step)].append((at, pod))
    for key in sorted(close):
        yield ReadinessLoss(min(close[key])[0], tuple(sorted({pod for _, pod in close[key]}, key=natural)))


def _window(done: StepResult, lost: int) -> FaultWindow:
    healed = max(done.began, done.ended or done.settled or done.began)
    return FaultWindow(
        done.number, done.fault, done.began, healed, max(healed, done.settled or healed), lost,
        done.injected and done.healed and not done.errors, done.nodes or done.pods,
    )  # fmt: skip
