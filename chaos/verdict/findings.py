"""One finding per fault: when readiness was lost, slices changed and each kernel converged, and what was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from chaos.faults import FAULTS
from chaos.perform import StepResult
from chaos.verdict.accounts import POD, account, kept_since, moved, wherever
from chaos.verdict.bounds import bounds
from chaos.verdict.facts import Facts, LostRequest
from chaos.verdict.following import able
from harness.lab.answers import Observation
from harness.wording import plural


class Finding(msgspec.Struct):
    """The finding for one fault.  Times are in seconds since it began; None for something that did not happen.

    `in_force_seconds` is from the first evidence to the check just before the heal, None if it was over by then.
    `nodes_followed` is, by node, when its kernel had followed the last change caused by the fault before the heal
    (None: it never did); `slowest_node_seconds` is the longest time, at least, from a change of the slices to a kernel;
    `never_followed` lists the nodes that had not followed a change when it was undone or the wait ended.
    `lost_after_convergence` counts requests to a pod that were due more than the grace period after the last kernel had
    removed it.  `lost_by_account` counts losses by the effect that made them unavoidable, `unaccounted` counts the
    others; `bounds` are the minimum and maximum that the fault can account for, by the `arithmetic`.
    `kernels_differ` lists, by node, differences between its kernel state and the API found afterwards.
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
    asked_seconds: float = 0.0
    in_force_seconds: float | None = None
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
    lost_by_account: dict[str, int] = {}
    unaccounted: int = 0
    bounds: tuple[int, int] = (0, 0)
    arithmetic: str = ""
    kernels_differ: dict[str, list[str]] | None = None
    sent: int | None = None


def trouble_of(finding: Finding) -> str:
    """The reason, in a few words, why the fault proves nothing; "" if there is none."""
    if not finding.injected:
        return "not injected"
    if not finding.healed:
        return "not healed"
    if finding.in_force_seconds is None:
        return "over before it was healed"
    if finding.in_force_seconds < finding.asked_seconds:
        return f"in force {finding.in_force_seconds:.2f} s of {finding.asked_seconds:g} s"
    return "not as planned" if finding.errors else ""


STANDING = {name: kind.MEANWHILE for name, kind in FAULTS.items() if kind.MEANWHILE}
"""Faults that should have no effect on clients, with the condition that held meanwhile."""


def unchanged(finding: Finding) -> str:
    """The result of a fault without losses, endpoint changes or problems, as text; "" for any other."""
    seen = (finding.readiness_lost_seconds, finding.slices_changed_seconds)
    if trouble_of(finding) or finding.lost:
        return ""
    if finding.fault not in STANDING and (finding.nodes_followed or any(time is not None for time in seen)):
        return ""
    meanwhile = STANDING.get(finding.fault)
    what = f"the rules stayed in place while {meanwhile}" if meanwhile else "no endpoint was removed"
    return (
        f"{what}: 0 of {plural(finding.sent, 'request')} lost"
        if finding.sent is not None
        else f"{what}: no request lost"
    )


def findings(facts: Facts) -> tuple[list[Finding], list[LostRequest]]:
    """One finding per fault, and the avoidable failures outside every fault's time."""
    lost: dict[int, list[LostRequest]] = {done.number: [] for done in facts.run.performed}
    unassigned = []
    for failure in facts.load.failures:
        kept = [done for done in facts.run.performed if kept_since(failure, done)]
        fault = kept[0] if kept else _fault_of(failure, facts.run.performed)
        if not fault or not account(failure, fault, facts):
            fault = next((done for done in facts.run.performed if moved(failure, done)), fault)
        if fault:
            lost[fault.number].append(failure)
        elif not wherever(failure, facts):
            unassigned.append(failure)
    return [_finding(done, facts, lost[done.number]) for done in facts.run.performed], unassigned


def _window(done: StepResult) -> tuple[float, float]:
    return done.began, max(done.settled or 0.0, done.ended or 0.0, done.began)


def _fault_of(failure: LostRequest, performed: list[StepResult]) -> StepResult | None:
    """The fault in whose time a request was sent, or else failed; of several, the one that hit its pod or node."""
    sent = [done for done in performed if _window(done)[0] <= failure.at <= _window(done)[1]]
    known = [done for done in performed if _window(done)[0] <= failure.ended <= _window(done)[1]]
    there = sent or known
    by_pod = [done for done in there if failure.pod in done.pods]
    by_node = [done for done in there if failure.node in done.nodes]
    return next(iter(by_pod or by_node or there), None)


def _finding(done: StepResult, facts: Facts, lost: list[LostRequest]) -> Finding:
    began, ended = _window(done)
    expected = [o for o in facts.run.observations if began <= o.asked <= ended]
    away = [o for o in expected if not o.wanted and able(o, facts.run.performed) == o.asked <= (done.ended or ended)]
    accounts = [account(failure, done, facts) for failure in lost]
    may = bounds(done, facts)
    found = Finding(
        done.number, done.fault, done.pods, done.nodes, began, ended, done.injected, done.healed, done.errors,
        asked_seconds=done.asked_seconds,
        in_force_seconds=done.in_force_seconds,
        nodes_followed=_followed(away, began),
        never_followed=sorted({o.node for o in expected if o.seen is None and o.until > able(o, facts.run.performed)}),
        lost=len(lost),
        lost_by_cause=_counted(failure.cause for failure in lost),
        lost_by_node=_counted(failure.node or "unknown" for failure in lost),
        lost_by_account=_counted(word for word in accounts if word),
        unaccounted=accounts.count(""),
        bounds=(may.least, may.most),
        arithmetic=may.words,
        kernels_differ={node: lines for node, lines in done.kernels.items() if lines} if done.kernels else done.kernels,
    )  # fmt: skip
    found.sent = sum(second.sent for second in facts.load.seconds if began - 1 < second.at <= ended)
    times = [t for pod in done.pods for t in facts.unready.get(pod, ()) if began <= t <= ended]
    found.readiness_lost_seconds = min(times) - began if times else None
    left = [o.asked for o in away] or [t for pod in done.pods for t in facts.left.get(pod, ()) if began <= t <= ended]
    found.slices_changed_seconds = min(left) - began if left else None
    taken = [o.until - able(o, facts.run.performed) for o in expected]
    found.slowest_node_seconds = max((seconds for seconds in taken if seconds >= 0), default=None)
    found.last_failure_seconds = max(f.at for f in lost) - began if lost else None
    found.lost_after_convergence = _late_losses(found, lost, accounts, done, facts.run.objectives.grace_seconds)
    return found


def _followed(away: list[Observation], began: float) -> dict[str, float | None]:
    """By node, when it had removed everything it had to."""
    times: dict[str, float | None] = {}
    for node in sorted({o.node for o in away}):
        here = [o for o in away if o.node == node]
        seen = [o.seen for o in here if o.seen is not None]
        times[node] = None if len(seen) < len(here) else max(seen) - began
    return times


def _late_losses(
    found: Finding, lost: list[LostRequest], accounts: list[str], done: StepResult, grace: float
) -> int | None:
    """None if there was no change to follow, or a kernel never followed: there is no convergence to count from.

    Losses unrelated to a pod, such as those through a node that is down, continue after convergence and do not count.
    """
    followed = [seconds for seconds in found.nodes_followed.values() if seconds is not None]
    if not followed or len(followed) < len(found.nodes_followed):
        return None
    since = found.began + max(followed) + grace
    until = done.ended or found.ended
    if done.confirmed is not None and done.in_force_seconds is not None:
        until = done.confirmed + done.in_force_seconds  # from then on it heals, and pods are restarted
    late = [word for f, word in zip(lost, accounts, strict=True) if since < f.at < until]
    return sum(word in ("", POD) for word in late)


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(Counter(words).most_common())
