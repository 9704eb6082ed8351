"""The complete program of a mode for the state at a point of a recording, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.backends.kernelspace import KernelspaceBackend
from engine.config import NEWEST, ProxyConfig
from engine.dataplane import Dataplane
from engine.manifest import ManifestError
from engine.model import ADDRESS_BYTES, Network
from engine.modes import MODES
from engine.program import Program
from engine.tracking import ClusterState
from harness.log import Recording, open_source
from harness.log.events import OBJECT_TYPES, JsonObject
from harness.log.node_names import NodeNames
from harness.log.positions import Position
from harness.log.state import require
from harness.log.window import Window
from harness.replay.config import proxy_config

PLANNERS = {**{mode.name: mode.backend for mode in MODES.values()}, "kernelspace": KernelspaceBackend}
"""All modes with a program, including those without a kernel here."""


@dataclass(frozen=True)
class PlanOptions:
    """The user's options; `at` is a position, None for the end; `families` are some of 4 and 6."""

    mode: str
    at: Position | None = None
    families: tuple[int, ...] = tuple(ADDRESS_BYTES)
    node: str | None = None
    pod_networks: tuple[Network, ...] | None = None
    source_vip: str = ""
    enable_dsr: bool = False
    version: tuple[int, int] = NEWEST


def programs(source: str, choices: PlanOptions) -> list[Program]:
    """One program per family, from scratch. RecordingError for bad input, LookupError if the seq does not exist."""
    with open_source(source) as recording:
        config = proxy_config(source, recording.header.cluster, choices.pod_networks, choices.version)
        state = _state(source, recording, choices)
    config = replace(config, winkernel_source_vip=choices.source_vip, winkernel_enable_dsr=choices.enable_dsr)
    return list(_planned(state, config, choices))


def program_of(header: JsonObject, objects: Iterable[tuple[str, bytes]], mode: str, node: str | None) -> list[Program]:
    """One program per family for given objects, as (resource, manifest); `header` is the recording's cluster.

    ManifestError for an object that the API would never send.
    """
    state = ClusterState(node, NEWEST)
    for resource, manifest in objects:
        state.observe("ADDED", resource, manifest)
    return list(_planned(state, proxy_config("", header, None, NEWEST), PlanOptions(mode)))


def _planned(state: ClusterState, config: ProxyConfig, choices: PlanOptions) -> Iterable[Program]:
    host = config.host(state.node)
    for family in choices.families:
        changes = Dataplane(family, config).update(state, sorted(state.services))
        yield PLANNERS[choices.mode](family, config).plan(changes, host)


def _state(source: str, recording: Recording, choices: PlanOptions) -> ClusterState:
    nodes, window = NodeNames(source), Window(until=choices.at)
    state, last = ClusterState(choices.node, choices.version), None
    for event in recording:
        if window.after(event):
            break
        last = event.seq
        nodes.observe(event)
        if event.type in OBJECT_TYPES:
            try:
                state.observe(event.type, event.resource, event.object)
            except ManifestError as error:
                raise recording.error(event, f"{event.type} {event.resource}: {error}") from error
    require(choices.at, last)
    nodes.require(choices.node)
    nodes.note_deleted(state.node_name)
    return state
