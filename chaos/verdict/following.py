"""How long nodes' kernels took to follow changes of the slices, and which changes they did not follow.  Pure.

For a node that could not follow (engine down, network cut, API unavailable) time counts from when it could again.  A
change that was undone, or for which the wait ended, before a node followed it is late if more than the limit had
passed, and otherwise unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from chaos.faults import having
from chaos.model import Effect
from chaos.perform import StepResult
from chaos.verdict.accounts import limit_seconds, sync_period
from chaos.verdict.facts import Facts
from chaos.verdict.words import Judgement
from harness.lab.answers import Observation
from harness.wording import plural

NODE_BLIND, ALL_BLIND, RULES_TOUCHED = map(having, (Effect.NODES_BLIND, Effect.ALL_BLIND, Effect.RULES_TOUCHED))
BACK_SECONDS = 10.0
"""A client's backoff starts below a second and doubles: after an outage of seconds it retries within seconds."""
DUE_PERIODS, DUE_SECONDS = 1.25, 0.25
"""A sync must have begun and ended this many minSyncPeriods, plus this time, after a change."""


class NodeConvergence(NamedTuple):
    """One change on one node: `seconds` since it could follow; a lower bound if it was not `seen`."""

    observation: Observation
    seconds: float
    seen: bool


def able(observation: Observation, performed: Iterable[StepResult]) -> float:
    """From when the node could converge: the change, or the end of a fault that cut it off from the API."""
    asked = observation.asked
    for done in performed:
        back = max(done.engines_back or 0.0, done.ended or done.began)
        blind = done.fault in ALL_BLIND or (done.fault in NODE_BLIND and observation.node in done.nodes)
        if blind and done.began <= asked <= back:
            return back
    return asked


def followed(facts: Facts) -> tuple[list[NodeConvergence], int]:
    """All changes with the time they took, and the number of those undone before the node could or had to follow."""
    found, left_out = [], 0
    due = DUE_PERIODS * sync_period(facts) + DUE_SECONDS
    for observation in facts.run.observations:
        since = able(observation, facts.run.performed)
        if observation.seen is None and observation.until <= since + due:
            left_out += 1
        else:
            found.append(
                NodeConvergence(observation, max(0.0, observation.until - since), observation.seen is not None)
            )
    return found, left_out


def convergence(facts: Facts) -> Judgement:
    """Every change on every node within the limit."""
    limit = limit_seconds(facts)
    wanted = f"at most {limit:.2f} s on every node"
    changes, left_out = followed(facts)
    if not changes:
        why = facts.run.unseen or "no change of the slices to follow"
        return Judgement("node convergence", None, wanted, "nothing", why, "0 changes")
    slow = [change for change in changes if change.seconds > limit]
    undone = [change for change in changes if not change.seen and change.seconds <= limit]
    slowest = max(change.seconds for change in changes)
    never = sorted({change.observation.node for change in changes if not change.seen})
    measured = f"{slowest:.3f} s at most" + (f", not every change by {', '.join(never)}" if never else "")
    sources = Counter(change.observation.source or "readback" for change in changes if change.seen)
    source = ", ".join(f"{count} by {name}" for name, count in sources.most_common()) or "none seen"
    source = f"{plural(len(changes), 'change')} of addresses by node: {source}"
    if left_out:
        source += f"; excluded {left_out} that were undone before the node could receive them, or a sync was due"
    if slow:
        return Judgement("node convergence", False, wanted, measured, f"{len(slow)} took longer", source)
    if undone:
        why = f"{len(undone)} were undone before they were followed, within the limit"
        return Judgement("node convergence", None, wanted, measured, why, source)
    return Judgement("node convergence", True, wanted, measured, "", source)


def pacing(facts: Facts) -> Judgement | None:
    """No two syncs closer than minSyncPeriod; None where the lab has none."""
    period = sync_period(facts)
    if not period:
        return None
    wanted = f"at least {period:g} s apart"
    gaps: list[float] = []
    for node, families in facts.run.transactions.items():
        for moments in (families or {}).values():
            gaps += _gaps(node, moments, facts, period)
    source = f"{plural(len(gaps), 'pause')} between syncs of one family, by kernel notification; excluded: nodes"
    source += " whose engine was restarted"
    if not gaps:
        return Judgement("syncs", None, wanted, "nothing", "fewer than two syncs were observed", source)
    short = sum(gap < period * (1 - PACING_SLACK) for gap in gaps)
    paced = short < TOO_SHORT and min(gaps) >= period / 2
    why = f"{short} were shorter than {period * (1 - PACING_SLACK):g} s" if not paced else ""
    return Judgement("syncs", paced, wanted, f"{min(gaps):.3f} s apart at least", why, source)


def returning(facts: Facts) -> Judgement | None:
    """Every engine follows the API again soon after it recovers; None if no fault cut them off from it."""
    kept = [done for done in facts.run.performed if done.fault in ALL_BLIND and done.healed and done.ended is not None]
    if not kept:
        return None
    wanted = f"at most {BACK_SECONDS:g} s after the heal"
    source = f"{plural(len(kept), 'fault')} of the API: engines healthy, and all their watches open"
    back = [done.engines_back - (done.ended or 0.0) for done in kept if done.engines_back is not None]
    if len(back) < len(kept):
        return Judgement("engines back", None, wanted, "not observed for all of them", "", source)
    took = max(back)
    return Judgement("engines back", took <= BACK_SECONDS, wanted, f"{max(took, 0.0):.3f} s at most", "", source)


def rewriting(facts: Facts) -> Judgement | None:
    """The cost of a sync is proportional to the change, without full rewrites; None if rewrites cannot be observed."""
    known = {node: moments for node, moments in facts.run.rewrites.items() if moments is not None}
    if not known:
        return None
    baseline = facts.run.baseline_seconds
    found = {
        node: sum(at >= baseline and not _touched(at, _disturbed(node, facts, 0.0)) for at in moments)
        for node, moments in known.items()
    }
    source = "tables replaced, by kernel notification; excluded: during faults that make an engine write everything"
    worst = max(found, key=lambda node: found[node])
    return Judgement("whole rewrites", not found[worst], "none", f"{found[worst]} on {worst}", "", source)


SAME_SYNC_SECONDS, PACING_SLACK, TOO_SHORT = 0.25, 0.1, 3
"""Transactions this close belong to one sync; the share by which a pause may appear shorter than it was; the number of
even shorter pauses that is no coincidence: a loaded machine may announce one sync late, so that the next one seems too
early, but not repeatedly, and not by half the period."""
SETTLING_SECONDS = 2.0
"""After such a fault the first pauses are ignored."""


def _gaps(node: str, moments: Iterable[float], facts: Facts, period: float) -> list[float]:
    """Pauses between one engine's syncs of one family, outside of disturbances."""
    disturbed = _disturbed(node, facts, period)
    began, gaps = None, []
    for at in moments:
        if at < facts.run.baseline_seconds or _touched(at, disturbed):
            began = None
            continue
        if began is not None and at - began < SAME_SYNC_SECONDS:
            continue
        if began is not None:
            gaps.append(at - began)
        began = at
    return gaps


def _disturbed(node: str, facts: Facts, before: float) -> list[tuple[float, float]]:
    """The times of faults that touch the node's rules."""
    return [
        (done.began - before, max(done.settled or 0.0, done.ended or 0.0, done.began) + SETTLING_SECONDS)
        for done in facts.run.performed
        if done.fault in RULES_TOUCHED and (not done.nodes or node in done.nodes)
    ]


def _touched(at: float, times: list[tuple[float, float]]) -> bool:
    return any(began <= at <= ended for began, ended in times)
