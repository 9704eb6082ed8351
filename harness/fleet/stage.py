"""The shared input of all views of a scenario: its events in batches, the changes, and the dead endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.config import NEWEST, ProxyConfig
from engine.model import Network
from engine.tracking import NODES, ClusterState
from harness.fleet.cost import Cost
from harness.fleet.dead import DeadEndpoints, Deaths
from harness.fleet.scenario import Scenario, applied
from harness.fleet.tape import Tape, TapeChange
from harness.log.events import OBJECT_TYPES
from harness.log.window import Window
from harness.replay.config import proxy_config
from harness.replay.schedule import batches
from harness.replay.session import kind_of

NS = 1_000_000_000


@dataclass(frozen=True)
class ChangeBatch:
    """The changes of one sync, due at `due` (ns of the recording); `first` is the number of its first change."""

    due: int
    first: int
    changes: tuple[TapeChange, ...]


@dataclass(frozen=True)
class FleetSettings:
    """Settings of all views of a run."""

    mode: str
    pod_networks: tuple[Network, ...] | None = None
    version: tuple[int, int] = NEWEST


@dataclass(frozen=True)
class PreparedScenario:
    """One scenario, prepared for the views of all nodes; `kinds` and `times` (ns) are by the number of a change."""

    scenario: Scenario
    settings: FleetSettings
    tape: Tape
    batches: tuple[ChangeBatch, ...]
    kinds: tuple[str, ...]
    times: tuple[int, ...]
    dead: tuple[Deaths, ...]
    cost: Cost = Cost()
    services: int = 0
    endpoints: int = 0

    @property
    def changes(self) -> tuple[TapeChange, ...]:
        """All changes, in order."""
        return tuple(change for batch in self.batches for change in batch.changes)

    @property
    def due(self) -> list[int]:
        """When the sync of each change was due, in ns."""
        return [batch.due for batch in self.batches for _ in batch.changes]


def staged(tape: Tape, scenario: Scenario, settings: FleetSettings) -> PreparedScenario:
    """All data of a scenario that does not depend on the node, except its cost."""
    tape = applied(scenario, tape)
    cut = tuple(_cut(tape, scenario))
    state = initial_state(tape, settings)
    services = len(state.services)
    endpoints = sum(len(piece.endpoints) for slices in state.slices.values() for piece in slices.values())
    dead = DeadEndpoints(state)
    for batch in cut:
        for number, change in enumerate(batch.changes, batch.first):
            assert change.observed, "markers are not in batches"
            dead.observe(number, change.event.t, change.observed)
    changes = [change for batch in cut for change in batch.changes]
    return PreparedScenario(
        scenario, settings, tape, cut,
        tuple(kind_of(change.event) for change in changes), tuple(change.event.t for change in changes),
        tuple(dead.found), services=services, endpoints=endpoints,
    )  # fmt: skip


def _cut(tape: Tape, scenario: Scenario) -> Iterator[ChangeBatch]:
    by_seq = {change.event.seq: change for change in tape.changes}
    events = (change.event for change in tape.changes)
    first = 0
    for batch in batches([], events, Window(), scenario.min_sync_period):
        changes = tuple(by_seq[event.seq] for event in batch.events if event.type in OBJECT_TYPES)
        yield ChangeBatch(batch.due, first, changes)
        first += len(changes)


def initial_state(tape: Tape, settings: FleetSettings) -> ClusterState:
    """The cluster's state after the initial list, for no particular node."""
    state = ClusterState(None, settings.version)
    for seen in tape.initial:
        if seen.resource != NODES:
            state.apply(seen)
    return state


def config_of(stage: PreparedScenario) -> ProxyConfig:
    """The proxies' configuration."""
    return proxy_config(stage.tape.source, stage.tape.cluster, stage.settings.pod_networks, stage.settings.version)
