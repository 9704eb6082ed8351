"""Changes counted from outside are those counted in process."""

from __future__ import annotations

import pytest

from harness.external.changes import observe
from harness.external.history import ExpectedHistory
from harness.judge.oracle import Settings
from harness.log import open_source
from harness.log.initial import initial_part
from harness.log.window import Window
from harness.modes import MODES, mode_of
from harness.places.world import MASQUERADE_ADDRESSES
from harness.replay.kernels import ReplayTarget
from harness.replay.schedule import batches
from harness.replay.session import NS, ReplayOptions, ReplaySession


def from_outside(path: str, mode: str) -> int:
    """The events that count, in a replay's batches."""
    with open_source(path) as recording:
        cluster = recording.header.cluster
        history = ExpectedHistory(None, Settings(cluster["clusterCIDR"], service_cidrs=tuple(cluster["serviceCIDRs"])))
        events = iter(recording)
        walk, rest = initial_part(events, Window(), frozenset({"nodes"}))
        for event in walk:
            history.observe(event)
        history.settle(MASQUERADE_ADDRESSES)
        return sum(len(observe(history, batch.events, mode).counted) for batch in batches(rest, events, Window(), NS))


def in_process(path: str, mode: str) -> int:
    opened = mode_of(mode).memory()
    target = ReplayTarget(opened.kernel, opened.view, {"kind": "memory"}, None)
    result = ReplaySession(path, ReplayOptions(mode=mode, verify="none"), target, lambda *_: None).run()
    return result.change.count


@pytest.mark.parametrize("mode", MODES)
def test_one_definition_of_a_change(mode):
    for recording in ("recordings/demo.jsonl", "recordings/rules.jsonl"):
        inside, outside = in_process(recording, mode), from_outside(recording, mode)
        # Plans that differ without a connection that would: an endpoint that none is sent to.
        assert 0 < outside <= inside <= 1.05 * outside, recording
