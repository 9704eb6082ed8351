"""The complete program of a mode for a cluster's state at one point of a recording, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.backends.kernelspace import KernelspaceBackend
from engine.config import ProxyConfig
from engine.dataplane import Dataplane
from engine.manifest import ManifestError
from engine.model import ADDRESS_BYTES, Network
from engine.program import Program
from engine.proxier import BACKENDS
from engine.tracking import ClusterState
from harness.events import OBJECT_TYPES
from harness.recording import Recording, open_source
from harness.replay.config import proxy_config

PLANNERS = {**BACKENDS, "kernelspace": KernelspaceBackend}
"""Every mode there is a program for, also those that no kernel here can take."""


@dataclass(frozen=True)
class Choices:
    """What a user may choose; `at` is a seq, None the end, `families` some of 4 and 6."""

    mode: str
    at: int | None = None
    families: tuple[int, ...] = tuple(ADDRESS_BYTES)
    node: str | None = None
    pod_networks: tuple[Network, ...] | None = None
    source_vip: str = ""
    enable_dsr: bool = False


def programs(source: str, choices: Choices) -> list[Program]:
    """One program a family, from scratch. RecordingError for bad input, LookupError when there is no such seq."""
    with open_source(source) as recording:
        config = proxy_config(source, recording.header.cluster, choices.pod_networks)
        state = _state(recording, choices)
    config = replace(config, winkernel_source_vip=choices.source_vip, winkernel_enable_dsr=choices.enable_dsr)
    return list(_planned(state, config, choices))


def _planned(state: ClusterState, config: ProxyConfig, choices: Choices) -> Iterable[Program]:
    host = config.host(state.node)
    for family in choices.families:
        changes = Dataplane(family, config).update(state, sorted(state.services))
        yield PLANNERS[choices.mode](family, config).plan(changes, host)


def _state(recording: Recording, choices: Choices) -> ClusterState:
    state, last = ClusterState(choices.node), None
    for event in recording:
        if choices.at is not None and event.seq > choices.at:
            break
        last = event.seq
        if event.type in OBJECT_TYPES:
            try:
                state.observe(event.type, event.resource, event.object)
            except ManifestError as error:
                raise recording.error(event, f"{event.type} {event.resource}: {error}") from error
    if choices.at not in (None, last):
        where = "the recording has no events" if last is None else f"the last one before it is {last}"
        raise LookupError(f"no event has seq {choices.at}; {where}")
    return state
