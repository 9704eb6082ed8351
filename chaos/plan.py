"""A seeded plan: an experiment's faults, completely determined.  Pure: same seed, same cluster, same plan.

Each step has its own random generator, so that editing one step leaves the others unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import msgspec

from chaos.faults import fault_of
from chaos.model import Cluster, PlanError, PlannedFault


class RequestedFault(msgspec.Struct, frozen=True):
    """A fault as requested by an experiment."""

    fault: str
    seconds: float
    parameters: dict[str, Any]
    optional: bool = False


class Plan(msgspec.Struct, frozen=True):
    """All steps of a run, with their inputs."""

    seed: int
    cluster: Cluster
    steps: tuple[PlannedFault, ...]


def make_plan(
    wanted: Iterable[RequestedFault],
    cluster: Cluster,
    seed: int,
    takes_away: Callable[[PlannedFault], frozenset[str]] = lambda step: frozenset(),
) -> Plan:
    """Determine all steps; PlanError names the step that cannot be planned.

    `takes_away` returns pods that a step removes on this target, in addition to those that it consumes on every target.
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


def _step(number: int, want: RequestedFault, cluster: Cluster, seed: int) -> tuple[PlannedFault, frozenset[str]]:
    if want.seconds < 0:
        raise PlanError(f"{want.fault} for {want.seconds} seconds: must be 0 or more")
    fault = fault_of(want.fault, want.parameters)
    rng = Random(f"{seed}/{number}/{want.fault}")
    chosen = fault.choose(cluster, rng)
    script = fault.script(chosen, want.seconds, rng, cluster)
    pods = tuple(pod.name for pod in chosen.pods)
    return PlannedFault(
        number, want.fault, msgspec.to_builtins(fault), want.seconds, pods, chosen.nodes, script, want.optional
    ), chosen.consumed
