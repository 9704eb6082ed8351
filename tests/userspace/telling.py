"""A userspace proxier and the oracle, told the same events."""

from __future__ import annotations

import time

import msgspec

from engine.config import NEWEST
from engine.proxier import Proxier
from harness.events import Event
from harness.oracle import Oracle
from harness.trace.cases import proxy_config


def synced(events, wanted, kernel, syncs: frozenset[int] = frozenset(), anew: frozenset[int] = frozenset()) -> Proxier:
    """A proxier after the events, synced after some of them and at the end; at `anew` everything is written again."""
    proxier = Proxier("userspace", proxy_config(wanted, NEWEST), kernel, time.perf_counter, "n1")
    for number, event in enumerate(events):
        proxier.state.observe(*event)
        if number in anew:
            proxier.resync()
        if number in syncs | anew:
            proxier.sync()
    proxier.sync()
    return proxier


def oracle_of(events, wanted) -> Oracle:
    """The oracle after the same events."""
    oracle = Oracle("n1", wanted)
    for number, event in enumerate(events):
        oracle.observe(Event(number + 1, 0, event[0], event[1], msgspec.Raw(event[2])))
    return oracle
