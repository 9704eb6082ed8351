"""One seeded plan: an experiment's faults with everything decided.  Pure: same seed, same cluster, same plan.

Each step draws from a generator of its own, so that editing one step leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import msgspec

from chaos.faults import fault_of
from chaos.model import Cluster, PlanError, Step


class Wanted(msgspec.Struct, frozen=True):
    """A fault as an experiment asks for it."""

    fault: str
    seconds: float
    parameters: dict[str, Any]


class Plan(msgspec.Struct, frozen=True):
    """All steps of a run and what they were made from."""

    seed: int
    cluster: Cluster
    steps: tuple[Step, ...]


def make_plan(
    wanted: Iterable[Wanted],
    cluster: Cluster,
    seed: int,
    takes_away: Callable[[Step], frozenset[str]] = lambda step: frozenset(),
) -> Plan:
    """Decide everything; PlanError names the step that cannot be.

    `takes_away` names pods that a step leaves none of on this target, besides those that it consumes on any.
    """
    steps = []
    left = cluster
    for number, want in enumerate(wanted, 1):
        try:
            step, consumed = _step(number, want, left, seed)
        except PlanError as error:
            raise PlanError(f"step {number}: {error}") from None
        steps.append(step)
        left = left.without(consumed | takes_away(step))
    return Plan(seed, cluster, tuple(steps))


def _step(number: int, want: Wanted, cluster: Cluster, seed: int) -> tuple[Step, frozenset[str]]:
    if want.seconds < 0:
        raise PlanError(f"{want.fault} for {want.seconds} seconds; 0 or more is needed")
    fault = fault_of(want.fault, want.parameters)
    rng = Random(f"{seed}/{number}/{want.fault}")
    chosen = fault.choose(cluster, rng)
    script = fault.script(chosen, want.seconds, rng, cluster)
    pods = tuple(pod.name for pod in chosen.pods)
    return Step(
        number, want.fault, msgspec.to_builtins(fault), want.seconds, pods, chosen.nodes, script
    ), chosen.consumed
