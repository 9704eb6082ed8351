"""Notifications are judged like a full reading: each deleted element, and every change of a recording."""

from __future__ import annotations

import struct
import time

import pytest

from engine.proxier import Proxier
from harness.acceptance.case_config import proxy_config
from harness.judge.oracle import Oracle, Settings
from harness.judge.readback.nftables_changes import Follower, concerned, hear, unannounced
from harness.judge.readback.nftables_judge import VERDICTS, NftablesState, judge
from harness.log import open_source
from harness.log.events import OBJECT_TYPES
from harness.modes import nftables

from .held import FAMILIES, RICH, program

SIZES = {4: 4, 6: 16}


def _judged(family, follower, before, expected, settings):
    sets, part = concerned(follower, before, expected)
    return judge(family, NftablesState(sets, {}, None), expected, settings, part, follower.hairpins_gone).differences


@pytest.fixture(scope="module")
def programmed():
    return program(nftables.memory(), "nftables", RICH)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_element_is_detected_by_partial_and_full_comparison(family, programmed):
    held, expected, settings = programmed.view.read(family), programmed.expected[family], programmed.settings
    missed = 0
    for name, elements in held.sets.items():
        for key in dict.fromkeys([*elements][:2] + [*elements][-1:]):
            follower = Follower(SIZES[family], held.sets, {})
            assert _judged(family, follower, expected, expected, settings) == []
            follower.deleted(name, {key: (elements[key], None)})
            part = _judged(family, follower, expected, expected, settings)
            less = held.sets | {name: {k: data for k, data in elements.items() if k != key}}
            whole = judge(family, NftablesState(less, None, None), expected, settings).differences
            if name in VERDICTS:  # these are compared with their chains, which are listed again
                listening = Follower(SIZES[family], held.sets, {(name, key): "goto"})
                listening.deleted(name, {key: (elements[key], -4)})
                assert listening.rules_changed
                continue
            assert bool(part) == bool(whole), f"{name} without {key.hex()}: {part} and {whole}"
            assert unannounced(follower.all_elements(), less) == []
            assert unannounced(follower.all_elements(), held.sets)
            missed += bool(part)
    assert missed > 20


def _differences(before, now):
    """Announcements of a transaction, as (set, elements), of what goes and what comes."""
    names = before.keys() | now.keys()
    gone = {n: {k: (d, None) for k, d in before.get(n, {}).items() if now.get(n, {}).get(k) != d} for n in names}
    new = {n: {k: (d, None) for k, d in now.get(n, {}).items() if before.get(n, {}).get(k) != d} for n in names}
    return gone, new


def test_a_recordings_changes_are_followed():
    """Every tenth event; an oracle that missed what happened since disagrees, unless nothing did."""
    with open_source(RICH) as recording:
        settings = Settings(cluster_cidr=recording.header.cluster["clusterCIDR"])
        events = list(recording)
    following, behind = Oracle(None, settings), Oracle(None, settings)
    opened = nftables.memory()
    proxier = Proxier("nftables", proxy_config(settings, settings.version), opened.kernel, time.perf_counter)
    followers, expected, seen = {}, {}, {}
    changes = noticed = 0
    for number, event in enumerate(events, 1):
        following.observe(event)
        if event.type in OBJECT_TYPES:
            proxier.state.observe(event.type, event.resource, event.object)
        if number < 200 or number % 10:
            behind.observe(event)
            continue
        proxier.sync()
        for family in FAMILIES:
            held, now = opened.view.read(family).sets, following.behaviour(family)
            if family in followers:
                gone, new = _differences(seen[family], held)
                for name in held:
                    followers[family].deleted(name, gone[name])
                    followers[family].added(name, new[name], {})
                late = _judged(family, followers[family], expected[family], behind.behaviour(family), settings)
                assert _judged(family, followers[family], expected[family], now, settings) == []
                assert unannounced(followers[family].all_elements(), held) == []
                different = now._replace(own_endpoints=None) != behind.behaviour(family)._replace(own_endpoints=None)
                assert not late or different
                changes, noticed = changes + different, noticed + bool(late)
                followers[family].settle()
            else:
                followers[family] = Follower(SIZES[family], held, {})
            expected[family], seen[family] = now, held
        behind.observe(event)
    assert changes >= noticed > 0


class _Family:
    def __init__(self, follower):
        self.follower = follower


@pytest.mark.parametrize(("table", "what", "followed", "listed"), [
    (b"kube-proxy", 9, True, True),    # NEWSET: declared again with every block of chains
    (b"kube-proxy", 6, True, True),    # NEWRULE
    (b"kube-proxy", 11, False, False),  # DELSET
    (b"kube-proxy", 2, False, False),  # DELTABLE
    (b"kube-proxy-shadow", 0, False, False),
    (b"filter", 2, True, False),
])  # fmt: skip
def test_lost_notifications_cause_a_full_reading(table, what, followed, listed):
    follower = Follower(4, {"picks": {}}, {})
    body = bytes((2, 0, 0, 0)) + struct.pack("=HH", 5 + len(table), 1) + table + b"\0"
    assert hear({4: _Family(follower)}, 10 << 8 | what, body + bytes(-len(body) % 4)) is followed
    assert follower.rules_changed is listed
