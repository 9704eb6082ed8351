"""userspace mode without sockets: any cluster, by any history, has the oracle's behaviour."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.backends.userspace.balancer import CLIENTS_LIMIT, Balancer
from engine.backends.userspace.program import EndpointSet
from engine.backends.userspace.tables import Tables
from engine.kernel.userspace import UserspaceMemory
from harness.acceptance.run import Tracers
from harness.judge.oracle.packets import expected
from harness.judge.readback.compare import compare
from harness.modes import userspace
from tests.cases.strategies import LOCAL, clusters, packed, packets, settings_of_proxies
from tests.cases.synced import oracle_of, synced
from tests.cases.test_differential import outcome, walk

SYNCS = st.frozensets(st.integers(0, 40), max_size=8)


@given(events=clusters(), wanted=settings_of_proxies)
def test_tables_tracer_and_oracle_agree(events, wanted):
    opened, tracers = userspace.memory(), Tracers("userspace", frozenset(map(packed, LOCAL)))
    synced("userspace", events, wanted, opened.kernel, tracers)
    oracle = oracle_of(events, wanted)
    for packet in packets(events):
        assert outcome(tracers, packet) == expected(oracle, packet, "userspace"), packet
    for family in (4, 6):
        assert compare(oracle.behaviour(family, "userspace"), opened.view.behaviour(family)) == []


@given(events=clusters(), again=clusters(), wanted=settings_of_proxies, syncs=SYNCS, full=SYNCS)
def test_incremental_state_equals_state_from_scratch(events, again, wanted, syncs, full):
    path, straight = walk(events, again)
    stepwise, at_once = userspace.memory(), userspace.memory()
    synced("userspace", path, wanted, stepwise.kernel, syncs=syncs, full=full)
    synced("userspace", straight, wanted, at_once.kernel)
    for family in (4, 6):
        assert stepwise.kernel.everything(family) == at_once.kernel.everything(family)


@given(events=clusters(), again=clusters(), wanted=settings_of_proxies, syncs=SYNCS)
def test_reported_sockets_are_those_that_change(events, again, wanted, syncs):
    """Sockets opened and closed by each program are those required by the tables."""
    opened: set[str] = set()

    class Following(UserspaceMemory):
        def apply(self, program):
            tables = self.tables.setdefault(program.family, Tables(program.family))
            for name in tables.apply(program):
                (opened.add if tables.wants(name) else opened.discard)(name)
            return super().apply(program)

    kernel = Following()
    path, _ = walk(events, again)
    synced("userspace", path, wanted, kernel, syncs=syncs)
    assert opened == set().union(*(tables.sockets() for tables in kernel.tables.values()))


THREE = EndpointSet(("a:1", "b:1", "c:1"))
STICKY = EndpointSet(("a:1", "b:1", "c:1"), affinity_seconds=60)


def test_the_rotation_continues_after_a_change():
    balancer = Balancer(THREE)
    assert [balancer.pick("x", 0) for _ in range(4)] == ["a:1", "b:1", "c:1", "a:1"]
    balancer.update(EndpointSet(("a:1", "c:1")))
    assert [balancer.pick("x", 0) for _ in range(3)] == ["c:1", "a:1", "c:1"]


def test_a_client_stays_until_it_is_silent_for_long_or_its_endpoint_leaves():
    balancer = Balancer(STICKY)
    assert [balancer.pick(client, 0) for client in "xyx"] == ["a:1", "b:1", "a:1"]
    assert balancer.pick("x", 59) == "a:1"
    assert balancer.pick("x", 118) == "a:1", "each connection renews it"
    assert balancer.pick("y", 118) == "c:1", "a minute without one ends it"
    balancer.update(EndpointSet(("b:1", "c:1"), 60))
    assert balancer.pick("x", 119) in ("b:1", "c:1")
    assert balancer.pick("y", 119) == "c:1"


def test_an_unresponsive_endpoint_is_skipped():
    balancer = Balancer(STICKY)
    assert balancer.pick("x", 0) == "a:1"
    balancer.forget("x")
    assert balancer.pick("x", 0) == "b:1"


def test_the_number_of_stored_clients_is_bounded():
    balancer = Balancer(STICKY)
    for number in range(CLIENTS_LIMIT + 10):
        balancer.pick(str(number), 0)
    assert len(balancer._clients) == CLIENTS_LIMIT
