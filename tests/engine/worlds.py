"""Small clusters as lists of (type, resource, manifest JSON), and equivalent rewritings of their history."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec
from hypothesis import strategies as st

from engine.addresses import parse_network
from engine.config import ProxyConfig
from engine.proxier import Proxier
from harness.log.events import OBJECT_TYPES
from harness.log.synth import SynthOptions, generate
from harness.modes import nftables

Story = list[tuple[str, str, bytes]]
CONFIG = ProxyConfig(pod_networks=(parse_network("10.128.0.0/9"), parse_network("fd00:10:128::/48")))


def story(seed: int, services: int = 8, churn: int = 40) -> Story:
    """A synthetic dual-stack cluster's history without its markers."""
    _, events = generate(SynthOptions(services, None, churn, nodes=4, zones=2, dual_stack=True, seed=seed))
    return [(e.type, e.resource, bytes(e.object)) for e in events if e.type in OBJECT_TYPES]


def key_of(event: tuple[str, str, bytes]) -> tuple[str, str, str]:
    meta = msgspec.json.decode(event[2])["metadata"]
    return event[1], meta.get("namespace", ""), meta["name"]


def state_of(events: Iterable[tuple[str, str, bytes]]) -> dict[tuple[str, str, str], bytes]:
    """The last manifest of each object that exists."""
    state: dict[tuple[str, str, str], bytes] = {}
    for event in events:
        if event[0] == "DELETED":
            state.pop(key_of(event), None)
        else:
            state[key_of(event)] = event[2]
    return state


def duplicated(events: Story, places: set[int]) -> Story:
    """Some events arrive twice."""
    return [e for i, event in enumerate(events) for e in ([event] * 2 if i in places else [event])]


def reordered(events: Story, places: set[int]) -> Story:
    """Some adjacent events of different objects are swapped."""
    changed = list(events)
    for i in sorted(places):
        if i + 1 < len(changed) and key_of(changed[i]) != key_of(changed[i + 1]):
            changed[i], changed[i + 1] = changed[i + 1], changed[i]
    return changed


def relisted(events: Story, places: set[int]) -> Story:
    """At some points everything that exists is added again."""
    changed: Story = []
    for i, event in enumerate(events):
        changed.append(event)
        if i in places:
            changed += [("ADDED", key[0], manifest) for key, manifest in sorted(state_of(events[: i + 1]).items())]
    return changed


def squashed(events: Story, places: set[int]) -> Story:
    """Some events are left out if a later one has the same object."""
    last = {key_of(event): i for i, event in enumerate(events)}
    return [event for i, event in enumerate(events) if i not in places or last[key_of(event)] == i]


RETELLINGS = (duplicated, reordered, relisted, squashed)
places = st.sets(st.integers(0, 90), max_size=25)


def run(events: Story, syncs: set[int] | None = None, node: str = "node-0001"):
    """Feed a Proxier on a kernel in memory, syncing after the given events and at the end."""
    opened = nftables.memory()
    proxier = Proxier("nftables", CONFIG, opened.kernel, time.perf_counter, node)
    for i, event in enumerate(events):
        proxier.state.observe(*event)
        if syncs and i in syncs:
            proxier.sync()
    proxier.sync()
    return proxier, opened
