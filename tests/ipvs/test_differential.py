"""Any cluster, any packet, mode ipvs: tracer over the program, oracle over the events and read-back agree."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from engine.config import NEWEST
from harness.acceptance.case_config import proxy_config
from harness.acceptance.run import Tracers
from harness.judge.oracle.packets import expected
from harness.judge.readback.compare import compare
from harness.modes import ipvs
from tests.cases.strategies import LOCAL, clusters, packed, packets, settings_of_proxies
from tests.cases.synced import oracle_of, synced
from tests.cases.test_differential import outcome, walk


@given(events=clusters(), wanted=settings_of_proxies)
def test_tracer_oracle_and_readback_agree(events, wanted):
    opened, tracers = ipvs.memory(), Tracers("ipvs", frozenset(map(packed, LOCAL)))
    synced("ipvs", events, wanted, opened.kernel, tracers)
    oracle = oracle_of(events, wanted)
    for packet in packets(events):
        assert outcome(tracers, packet) == expected(oracle, packet, "ipvs"), packet
    for family in (4, 6):
        assert opened.view.check(family, oracle.behaviour(family, "ipvs"), wanted).differences == []


@given(events=clusters(), again=clusters(), wanted=settings_of_proxies, syncs=st.frozensets(st.integers(0, 40)))
def test_incremental_state_equals_state_from_scratch(events, again, wanted, syncs):
    path, straight = walk(events, again)
    stepwise, at_once = ipvs.memory(), ipvs.memory()
    synced("ipvs", path, wanted, stepwise.kernel, syncs=syncs)
    synced("ipvs", straight, wanted, at_once.kernel)
    for family in (4, 6):
        assert stepwise.kernel.held.get(family) == at_once.kernel.held.get(family)


@given(events=clusters(), again=clusters(), wanted=settings_of_proxies, syncs=st.frozensets(st.integers(0, 40)))
def test_programs_are_deterministic(events, again, wanted, syncs):
    path, _ = walk(events, again)
    first, second = (synced("ipvs", path, wanted, ipvs.memory().kernel, syncs=syncs).digest for _ in range(2))
    assert first == second


@pytest.mark.vm
@settings(max_examples=2, derandomize=True, phases=(Phase.generate,), deadline=None)
@given(events=clusters(), wanted=settings_of_proxies)
def test_the_kernel_state_equals_the_oracles(node, events, wanted):
    node.memory = ipvs.memory()
    node.proxier(proxy_config(wanted, NEWEST), events)
    assert node.differences() == []
    assert compare(oracle_of(events, wanted).behaviour(4, "ipvs"), node.view.behaviour(4)) == []
