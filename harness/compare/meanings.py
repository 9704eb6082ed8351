"""Folds a recording and asks the oracle what each mode makes of the state in which it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.events import OBJECT_TYPES, Event
from harness.oracle import Oracle, Settings
from harness.oracle.differences import Difference, differences
from harness.recording import Recording, open_source
from harness.recording.state import State, folded, key_of
from harness.replay.schedule import Window

FAMILIES = (4, 6)


def meanings(
    source: str, modes: Sequence[str], node: str | None, cluster_cidr: str | None, window: Window
) -> list[Difference]:
    """Differences between the modes at the end of the window, as `node` (the first one by default) sees them."""
    with open_source(source) as recording:
        cluster = recording.header.cluster
        settings = Settings(cluster_cidr=cluster_cidr or cluster.get("clusterCIDR") or "")
        oracle = _told(recording, node, settings, window)
    views = {family: {mode: oracle.behaviour(family, mode) for mode in modes} for family in FAMILIES}
    return differences(views, bool(cluster.get("serviceCIDRs")))


def _told(recording: Recording, node: str | None, settings: Settings, window: Window) -> Oracle:
    """An oracle after the window's events; which Node is the first one has to be known before it is made."""
    events = list(_until(recording, window))
    nodes = (key_of(e)[2] for e in events if e.resource == "nodes" and e.type in OBJECT_TYPES)
    oracle = Oracle(node or next(nodes, None), settings)
    for event in events:
        oracle.observe(event)
    return oracle


def _until(recording: Recording, window: Window) -> Iterator[Event]:
    for event in folded(recording, State()):
        if window.after(event):
            return
        yield event
