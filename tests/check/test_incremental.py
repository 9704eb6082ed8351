"""The oracle that follows events agrees with one that receives all of them at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge.oracle import Oracle, Settings
from harness.judge.oracle.scene import scene
from harness.log import open_source
from harness.modes import MODES

from .held import RICH

SETTINGS = Settings(cluster_cidr="10.128.0.0/9,fd00:10:128::/56")
EVERY = 60


@pytest.fixture(scope="module")
def events():
    with open_source(str(RICH)) as recording:
        return list(recording)


def _told(events):
    oracle = Oracle(None, SETTINGS)
    for event in events:
        oracle.observe(event)
    return oracle


def _said(oracle, mode):
    return [(oracle.behaviour(f, mode), [oracle.on_node(f, p) for p in (6, 17, 132)], scene(oracle, f)) for f in (4, 6)]


@pytest.mark.parametrize("mode", MODES)
def test_incremental_and_full_comparison_agree(mode, events):
    following, moments = Oracle(None, SETTINGS), []
    for number, event in enumerate(events, 1):
        following.observe(event)
        if number % EVERY == 0 or number == len(events):
            said = _said(following, mode)
            assert said == _said(_told(events[:number]), mode), f"after event {number}"
            moments.append(said)
    assert any(before != after for before, after in zip(moments, moments[1:], strict=False))
    following.forget()
    assert _said(following, mode) == moments[-1]
    following.settings = replace(SETTINGS, masquerade_all=True)
    assert following.behaviour(4, mode) != moments[-1][0][0] or mode == "userspace"
