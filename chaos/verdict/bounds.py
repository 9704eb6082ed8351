"""Minimum and maximum number of requests that a fault can lose: duration x request rate x affected share.  Pure.

The share is a probability (one endpoint, or one node, out of N), so the bounds allow four standard deviations each way.
Requests whose endpoint is not chosen independently (sticky clients, clients that keep their port) may all be lost, or
none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from chaos.faults import having
from chaos.model import Effect
from chaos.perform import StepResult
from chaos.verdict.accounts import (
    DROPPING,
    FLUSHED,
    KILLING,
    START_SECONDS,
    UNREACHABLE,
    limit_seconds,
    sender,
)  # fmt: skip
from chaos.verdict.facts import Facts, Second

DEVIATIONS, FEW = 4.0, 3.0
CROSSINGS = 12
"""The maximum number of packets of one request that cross one node."""
ONE_DEATH = having(Effect.ONE_DEATH)


class Bounds(NamedTuple):
    """`least` to `most` requests, and the arithmetic as text."""

    least: int
    most: int
    words: str


def bounds(done: StepResult, facts: Facts) -> Bounds:
    """Bounds of the losses that the fault accounts for; zero if it makes none unavoidable."""
    if done.fault not in (*KILLING, *DROPPING, *FLUSHED):
        return Bounds(0, 0, "nothing is unavoidable")
    share = _Shares(done, facts)
    certain, possible = _spans(done, facts)
    least = sum(share.least(row) * row.sent * part for row, part in _rows(facts, *certain))
    most = sum(share.most(row) * row.sent * part for row, part in _rows(facts, *possible))
    concerned = sum(row.sent * part for row, part in _rows(facts, *possible))
    seconds = possible[1] - possible[0]
    words = f"{seconds:.1f} s x {concerned / max(seconds, 0.1):.0f} requests/s x {100 * most / max(concerned, 1):.0f} %"
    return Bounds(
        max(0, math.floor(least - DEVIATIONS * math.sqrt(least) - FEW)),
        math.ceil(most + DEVIATIONS * math.sqrt(most) + FEW),
        words,
    )


Span = tuple[float, float]


def _spans(done: StepResult, facts: Facts) -> tuple[Span, Span]:
    """The time in which requests are certainly lost, and in which they may be: for dead pods, until kernels had to
    remove them."""
    began, ended = done.began, max(done.ended or 0.0, done.began)
    seen = ended if done.confirmed is None else done.confirmed
    timeout = facts.run.load_options.timeout_seconds
    left = [at for pod in done.pods for at in facts.left.get(pod, ()) if began <= at <= ended]
    if done.fault in ONE_DEATH and left:
        return (seen, min(left)), (began - timeout, max(left) + limit_seconds(facts))
    after = START_SECONDS if done.fault in KILLING else 0.0
    return (seen, (done.confirmed or seen) + (done.in_force_seconds or 0.0)), (began - timeout, ended + after)


def _rows(facts: Facts, began: float, ended: float) -> Iterator[tuple[Second, float]]:
    """Each second's row that overlaps, and the overlapping part of it."""
    for row in facts.load.seconds:
        part = min(ended, row.at + 1.0) - max(began, row.at)
        if part > 0:
            yield row, part


class _Shares:
    """The share of one flow's requests from one sender that a fault affects."""

    def __init__(self, done: StepResult, facts: Facts) -> None:
        nodes = (len(facts.run.plan.cluster.nodes) if facts.run.plan else 0) or 1
        ready = {pod for pod, spans in facts.offered.items() if any(a <= done.began <= b for a, b in spans)}
        self._done, self._nodes = done, len(done.nodes) / nodes
        by_pod = done.fault in KILLING and done.fault not in UNREACHABLE
        hit = set(done.pods) if by_pod else {p for p in ready if facts.homes.get(p) in done.nodes}
        self._pods = len(ready & hit) / len(ready) if ready else 0.0
        self._local = 0.0
        for pod in ready & hit:
            beside = sum(facts.homes.get(other) == facts.homes.get(pod) for other in ready)
            self._local += 1 / nodes / beside
        self._lost = 1.0
        if done.fault == "packet-loss":
            self._lost = 1 - (1 - _percent(done, facts) / 100) ** CROSSINGS

    def most(self, row: Second) -> float:
        """Upper bound; a client that keeps its endpoint may have kept an affected one."""
        if row.flow.startswith("local-") and self._done.fault not in UNREACHABLE:
            return self._lost * (self._nodes or self._local)
        if _stays(row.flow):
            return self._lost
        if self._done.fault in KILLING and self._done.fault not in UNREACHABLE:
            return self._pods
        if sender(row.where) in self._done.nodes:
            return self._lost
        by_node = self._nodes if row.flow.startswith(("nodeport-", "balancer-")) else 0.0
        return self._lost * (by_node + (1 - by_node) * self._pods)

    def least(self, row: Second) -> float:
        """Lower bound: only requests whose endpoint is chosen independently, and that fail at once."""
        if _stays(row.flow):
            return 0.0
        if self._done.fault in ONE_DEATH:
            return self._pods
        if self._done.fault in (*UNREACHABLE, *FLUSHED) and row.flow.startswith("nodeport-"):
            return 0.0 if "keepalive" in row.flow else self._nodes
        return 0.0


def _stays(flow: str) -> bool:
    return flow.startswith(("sticky-", "local-")) or flow.endswith("-kept")


def _percent(done: StepResult, facts: Facts) -> float:
    steps = facts.run.plan.steps if facts.run.plan else ()
    return next((float(s.parameters.get("percent", 100)) for s in steps if s.number == done.number), 100.0)
