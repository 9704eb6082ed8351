"""The tasks of workers. Each is a pure function of its arguments, so that a lost one can be repeated elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.fleet.cost import Cost, fitted
from harness.fleet.scenario import Scenario
from harness.fleet.share import Share, share_of
from harness.fleet.shared import Shared, sharing
from harness.fleet.stage import FleetSettings, PreparedScenario, staged
from harness.fleet.tape import Tape
from harness.fleet.view import NO_SYNC, FleetView, view
from harness.fleet.zone_view import zone_view
from harness.garbage import uncollected


@dataclass(frozen=True)
class ScenarioStage:
    """A scenario's stage, and the shared part of each zone."""

    stage: PreparedScenario
    shared: dict[str, Shared]


def measured(tape: Tape, scenario: Scenario, settings: FleetSettings) -> Cost:
    """The cost of a sync, on the view of the first node."""
    with uncollected():
        first = view(staged(tape, scenario, settings), next(iter(tape.nodes)), time.process_time)
    ran = [n for n, operations in enumerate(first.operations) if n and operations != NO_SYNC]
    return fitted([first.operations[n] for n in ran], [first.seconds[n] for n in ran])


def prepared(tape: Tape, scenario: Scenario, settings: FleetSettings) -> ScenarioStage:
    """The parts of a scenario that are computed once."""
    with uncollected():
        stage = staged(tape, scenario, settings)
        return ScenarioStage(stage, sharing(stage))


def share(ready: ScenarioStage, cost: Cost, nodes: Sequence[str]) -> Share:
    """The figures of these nodes' views."""
    with uncollected():
        return share_of(replace(ready.stage, cost=cost), (view_of(ready, node) for node in nodes))


def view_of(ready: ScenarioStage, node: str) -> FleetView:
    """From the shared part of the zone, or if that is not possible by the engine alone, with the same result."""
    own = ready.stage.tape.nodes[node]
    shared = ready.shared.get(own.zone if own else "") or ready.shared.get("")
    if shared is None or node in ready.stage.tape.leaving:
        return view(ready.stage, node)
    return zone_view(ready.stage, shared, node)
