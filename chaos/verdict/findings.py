"""What came of each fault: when readiness was lost, slices changed, each kernel followed, what was lost meanwhile."""

from __future__ import annotations

from collections import Counter

import msgspec

from chaos.perform import Performed
from chaos.verdict.facts import Facts, Failure, Observation

UNREACHABLE = ("node-loss", "node-cut")
"""Faults whose own node cannot be expected to follow anything while they last."""


class Finding(msgspec.Struct):
    """One fault's. Times in seconds since it began; None where something did not happen.

    `nodes_followed` is, by node, when its kernel had followed the last change that the fault brought about before it
    healed (None: it never did), `slowest_node_seconds` the longest time from any change of the slices to a kernel, at
    least; `never_followed` names the nodes that a change was undone for, or given up on, before they had followed it.
    `lost_after_convergence` counts requests meant to be sent more than the grace after the last kernel had followed,
    those addressed to a node that is itself unreachable left out: no kernel can save them.
    """

    number: int
    fault: str
    pods: tuple[str, ...]
    nodes: tuple[str, ...]
    began: float
    ended: float
    injected: bool
    healed: bool
    errors: list[str]
    readiness_lost_seconds: float | None = None
    slices_changed_seconds: float | None = None
    nodes_followed: dict[str, float | None] = {}
    slowest_node_seconds: float | None = None
    never_followed: list[str] = []
    last_failure_seconds: float | None = None
    lost: int = 0
    lost_by_cause: dict[str, int] = {}
    lost_by_node: dict[str, int] = {}
    lost_after_convergence: int | None = None


def findings(facts: Facts) -> tuple[list[Finding], list[Failure]]:
    """One finding a fault, and the failures that belong to none of them."""
    lost: dict[int, list[Failure]] = {done.number: [] for done in facts.performed}
    nobody_s = []
    for failure in facts.load.failures:
        fault = _fault_of(failure, facts.performed)
        (lost[fault.number] if fault else nobody_s).append(failure)
    return [_finding(done, facts, lost[done.number]) for done in facts.performed], nobody_s


def _window(done: Performed) -> tuple[float, float]:
    return done.began, max(done.settled or 0.0, done.ended or 0.0, done.began)


def _fault_of(failure: Failure, performed: list[Performed]) -> Performed | None:
    """The fault in whose time a request was sent, or else known lost; of several, that which hit its pod or node."""
    sent = [done for done in performed if _window(done)[0] <= failure.at <= _window(done)[1]]
    known = [done for done in performed if _window(done)[0] <= failure.ended <= _window(done)[1]]
    there = sent or known
    by_pod = [done for done in there if failure.pod in done.pods]
    by_node = [done for done in there if failure.node in done.nodes]
    return next(iter(by_pod or by_node or there), None)


def _finding(done: Performed, facts: Facts, lost: list[Failure]) -> Finding:
    began, ended = _window(done)
    expected = [
        o
        for o in facts.observations
        if began <= o.asked <= ended and not (done.fault in UNREACHABLE and o.node in done.nodes)
    ]
    away = [o for o in expected if not o.wanted and o.asked <= (done.ended or ended)]
    found = Finding(
        done.number, done.fault, done.pods, done.nodes, began, ended, done.injected, done.healed, done.errors,
        nodes_followed=_followed(away, began),
        never_followed=sorted({o.node for o in expected if o.seen is None}),
        lost=len(lost),
        lost_by_cause=_counted(failure.cause for failure in lost),
        lost_by_node=_counted(failure.node or "unknown" for failure in lost),
    )  # fmt: skip
    times = [t for pod in done.pods for t in facts.unready.get(pod, ()) if began <= t <= ended]
    found.readiness_lost_seconds = min(times) - began if times else None
    left = [o.asked for o in away] or [t for pod in done.pods for t in facts.left.get(pod, ()) if began <= t <= ended]
    found.slices_changed_seconds = min(left) - began if left else None
    found.slowest_node_seconds = max((o.seconds for o in expected), default=None)
    found.last_failure_seconds = max(f.at for f in lost) - began if lost else None
    found.lost_after_convergence = _late_losses(found, lost, done, facts.objectives.grace_seconds)
    return found


def _followed(away: list[Observation], began: float) -> dict[str, float | None]:
    """By node, when it had let go of everything it had to."""
    times: dict[str, float | None] = {}
    for node in sorted({o.node for o in away}):
        seen = [o.seen for o in away if o.node == node]
        times[node] = None if None in seen else max(seen) - began
    return times


def _late_losses(found: Finding, lost: list[Failure], done: Performed, grace: float) -> int | None:
    """None when nothing had to be followed, or a kernel never did: then there is no moment to count from."""
    if not found.nodes_followed or None in found.nodes_followed.values():
        return None
    since = found.began + max(found.nodes_followed.values()) + grace
    own = done.nodes if done.fault in UNREACHABLE else ()
    late = [f for f in lost if since < f.at < (done.ended or found.ended)]
    return sum(f.node not in own for f in late)


def _counted(words) -> dict[str, int]:
    return dict(Counter(words).most_common())
