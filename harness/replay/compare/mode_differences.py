"""Folds a recording and computes, by the oracle, how the modes differ in the final state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.garbage import uncollected
from harness.judge.oracle import Oracle, Settings
from harness.judge.oracle.differences import Difference, differences
from harness.log import Recording, open_source
from harness.log.events import Event, JsonObject
from harness.log.node_names import NodeNames
from harness.log.state import State, folded
from harness.log.window import Window
from harness.replay.compare.result import UpgradeRow
from harness.replay.compare.upgrade import upgrade

FAMILIES = (4, 6)


@uncollected()
def mode_differences(
    source: str,
    modes: Sequence[str],
    node: str | None,
    cluster_cidr: str | None,
    window: Window,
    version: tuple[int, int] | None = None,
) -> list[Difference]:
    """Differences between the modes at the end of the window, for `node` (the first Node by default)."""
    with open_source(source) as recording:
        cluster = recording.header.cluster
        settings = _settings(cluster, cluster_cidr)
        if version:
            settings = replace(settings, version=version)
        events, node = _events(recording, node, window)
    oracle = Oracle(node, settings)
    for event in events:
        oracle.observe(event)
    views = {family: {mode: oracle.behaviour(family, mode) for mode in modes} for family in FAMILIES}
    return differences(views, bool(cluster.get("serviceCIDRs")))


@uncollected()
def upgrades(
    source: str,
    modes: Sequence[str],
    node: str | None,
    cluster_cidr: str | None,
    window: Window,
    versions: Sequence[tuple[int, int]],
) -> list[UpgradeRow]:
    """What each version of kube-proxy changes in the state at the end of the window."""
    with open_source(source) as recording:
        settings = _settings(recording.header.cluster, cluster_cidr)
        events, node = _events(recording, node, window)
    return upgrade(events, node, settings, versions, modes)


def _settings(cluster: JsonObject, cluster_cidr: str | None) -> Settings:
    services = tuple(cluster.get("serviceCIDRs") or ())
    return Settings(cluster_cidr=cluster_cidr or cluster.get("clusterCIDR") or "", service_cidrs=services)


def _events(recording: Recording, node: str | None, window: Window) -> tuple[list[Event], str | None]:
    """The window's events and the node, which must be known before the oracle is created."""
    events = list(_until(recording, window))
    names = NodeNames(recording.path)
    for event in events:
        names.observe(event)
    names.require(node)
    node = node or names.first
    names.note_deleted(node)
    return events, node


def _until(recording: Recording, window: Window) -> Iterator[Event]:
    for event in folded(recording, State()):
        if window.after(event):
            return
        yield event
