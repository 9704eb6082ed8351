"""Objectives about lost requests: when they were lost, what accounts for them, how many are allowed.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.verdict.accounts import BALANCER, FLOW, LOCAL, STAYED
from chaos.verdict.facts import Facts, LostRequest
from chaos.verdict.findings import Finding
from chaos.verdict.words import Judgement
from harness.wording import plural

BLIND_MODES = ("userspace",)
"""Modes in which the endpoint of a lost request is not observable."""


def judged(facts: Facts, found: list[Finding], outside: list[LostRequest]) -> Iterator[Judgement]:
    """The judgement of each requested objective."""
    objectives, load = facts.run.objectives, facts.load
    left_out = load.failed - len(outside) - sum(finding.lost for finding in found)
    source = f"{plural(load.sent, 'request')} sent, {load.failed:,} lost; excluded {left_out} unavoidable"
    if objectives.lost_outside_faults is not None:
        yield _outside(facts, outside, objectives.lost_outside_faults, source)
    if objectives.unaccounted_losses is not None:
        yield _unaccounted(facts, found, objectives.unaccounted_losses)
    if objectives.losses_within_bounds:
        yield _within(facts, found)


def _outside(facts: Facts, outside: list[LostRequest], limit: int, source: str) -> Judgement:
    wanted = f"at most {limit}"
    if not facts.load.sent:
        return Judgement("lost outside faults", None, wanted, "nothing", "nothing was sent", source)
    first = min((done.began for done in facts.run.performed), default=0.0)
    last = max((done.settled or done.ended or done.began for done in facts.run.performed), default=0.0)
    before, after = sum(f.at < first for f in outside), sum(f.at > last for f in outside)
    measured = f"{len(outside)}: {before} before the first, {after} after the last"
    return Judgement("lost outside faults", len(outside) <= limit, wanted, measured, "", source)


def _unaccounted(facts: Facts, found: list[Finding], limit: int) -> Judgement:
    wanted = f"at most {limit}"
    lost = sum(finding.lost for finding in found)
    source = f"{lost:,} losses in faults' times; endpoints by the nodes' connection tracking"
    if not facts.load.sent:
        return Judgement("lost without account", None, wanted, "nothing", "nothing was sent", source)
    if lost and facts.run.mode in BLIND_MODES:
        why = f"mode {facts.run.mode} does not show the endpoint of a lost request"
        return Judgement("lost without account", None, wanted, "nothing", why, source)
    count = sum(finding.unaccounted for finding in found)
    where = ", ".join(f"{f.number}. {f.fault} {f.unaccounted}" for f in found if f.unaccounted)
    return Judgement(
        "lost without account", count <= limit, wanted, f"{count}" + (f": {where}" if where else ""), "", source
    )


def _within(facts: Facts, found: list[Finding]) -> Judgement:
    wanted = "each fault's losses within its bounds"
    source = f"arithmetic: time x rate x share, four standard deviations; {plural(len(found), 'fault')}"
    tried = [finding for finding in found if finding.injected]
    if not tried or not facts.load.sent or facts.run.mode in BLIND_MODES:
        return Judgement("losses within bounds", None, wanted, "nothing", "no fault's losses are known", source)
    wrong = [f for f in tried if not f.bounds[0] <= accounted(f) <= f.bounds[1]]
    outside = "; ".join(f"{f.number}. {f.fault} {accounted(f)}, not {f.bounds[0]} to {f.bounds[1]}" for f in wrong)
    return Judgement("losses within bounds", not wrong, wanted, outside or "all are", "", source)


def accounted(finding: Finding) -> int:
    """Losses that the bounds cover: not those of a node without a local endpoint, nor of flows that stay."""
    return sum(count for word, count in finding.lost_by_account.items() if word not in (BALANCER, FLOW, LOCAL, STAYED))
