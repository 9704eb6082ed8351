"""A proxier of any mode and the oracle, given the same events."""

from __future__ import annotations

import functools
import time

import msgspec

from engine.config import NEWEST
from engine.proxier import Proxier
from harness.acceptance.case_config import proxy_config
from harness.judge.oracle import Oracle
from harness.log.events import Event


class Both:
    """A kernel that passes its programs on to others."""

    def __init__(self, *kernels) -> None:
        self._kernels = kernels

    def apply(self, program):
        for kernel in self._kernels:
            applied = kernel.apply(program)
        return applied


def synced(
    mode: str, events, wanted, *kernels, syncs: frozenset[int] = frozenset(), full: frozenset[int] = frozenset()
) -> Proxier:
    """A proxier after the events, synced after some of them and at the end; at `full` by a full sync."""
    proxier = Proxier(mode, proxy_config(wanted, NEWEST), Both(*kernels), time.perf_counter, "n1")
    for number, event in enumerate(events):
        proxier.state.observe(*event)
        if number in full:
            proxier.resync()
        if number in syncs | full:
            proxier.sync()
    proxier.sync()
    return proxier


def oracle_of(events, wanted) -> Oracle:
    """The oracle after the same events; no more follow, so its behaviour is cached."""
    oracle = Oracle("n1", wanted)
    for number, event in enumerate(events):
        oracle.observe(Event(number + 1, 0, event[0], event[1], msgspec.Raw(event[2])))
    oracle.behaviour = functools.cache(oracle.behaviour)
    return oracle
