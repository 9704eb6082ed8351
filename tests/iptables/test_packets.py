"""Real packets for cases beyond a row: default-drop policies, INVALID packets, the kernel's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from engine.proxier import Proxier
from harness.acceptance.cases import Case
from harness.acceptance.observer import PacketObserver, open_observer
from harness.conformance.corpus.clusters import CIP, CLIENT, E1, E2, E3, LB, NODE_PORT, POD, end, flow, service, slice_
from harness.conformance.corpus.row import BOTH, full, local
from harness.places.wire import reset
from harness.places.world import OUTSIDE_INTERFACE
from tests.cases.made import case
from tests.cases.strategies import packed

NP, CHECK = f"192.168.0.2:{NODE_PORT}", 32100


@contextmanager
def running(read: Case, **config) -> Iterator[PacketObserver]:
    """A world in which the case's cluster is programmed."""
    with open_observer(read, "iptables") as observer:
        proxier = Proxier("iptables", replace(read.proxy_config(), **config), observer, time.perf_counter, read.node)
        for event in read.stages[0].events:
            proxier.state.observe(*event)
        proxier.sync()
        yield observer


def test_translated_packets_and_health_checks_pass_a_default_drop(tmp_path, kernel_namespaces):
    """MASQ-02, IPT-06, CMP-10: accepted by mark, as an answer, or by its own rule; nothing else is."""
    wanted = [
        flow(CLIENT, NP, "dnat+", E1),
        flow(CLIENT, f"192.168.0.2:{CHECK}", "no-op"),
        flow(CLIENT, "192.168.0.2:22", "drop"),
        flow(CLIENT, f"{E1}:80", "drop"),
        flow(POD, f"{CIP}:80", "drop"),  # its source is kept, so it has no mark
    ]
    cluster = [full(), slice_(end(E1, "n1")), service("LoadBalancer", name="s2", ip="172.30.0.42",
               ports=[("http", "TCP", 80, 0)], healthCheckNodePort=CHECK, **local())]  # fmt: skip
    read = case("x", cluster, wanted)
    with running(read) as observer:
        for chain in ("INPUT", "FORWARD"):
            assert observer.world.node.run(["iptables-nft", "-P", chain, "DROP"]).returncode == 0
        seen = observer.observe(list(read.stages[0].flows))
    assert [each["outcome"] for each in seen] == [each.expected for each in read.stages[0].flows]
    assert seen[0]["answered"] == seen[0]["attempts"], "answers pass as well"


@pytest.mark.parametrize("liberal", [False, True])
def test_invalid_packets_are_dropped_unless_conntrack_is_liberal(tmp_path, kernel_namespaces, liberal):
    """MASQ-03."""
    read = case("x", [full(), slice_(end(E1, "n1"))], [flow(POD, f"{CIP}:80", "dnat", E1)])
    with running(read, conntrack_tcp_be_liberal=liberal) as observer:
        observer.world.send(OUTSIDE_INTERFACE, reset(7, (packed(CLIENT), 4000), (packed(E1), 80)))
        seen = [s for s in observer.world.sightings(0.3, 5) if (s.seen.kind, s.seen.number) == ("reset", 7)]
    assert [s.place for s in seen] == (["pods0"] if liberal else [])


def test_a_client_keeps_its_endpoint_until_the_affinity_timeout(tmp_path, kernel_namespaces):
    """AFF-02: by the kernel's own clock; each connection restarts the timeout, whatever address it uses."""
    config = {"clientIP": {"timeoutSeconds": 1}}
    sticky = service("LoadBalancer", lb=[LB], sessionAffinity="ClientIP", sessionAffinityConfig=config)
    wanted = [flow(POD, f"{CIP}:80", "dnat", E1, E2, E3), flow(POD, f"{LB}:80", "dnat+", E1, E2, E3)]
    read = case("x", [sticky, slice_(end(E1), end(E2), end(E3))], wanted)
    by_address, by_balancer = read.stages[0].flows
    with running(read) as observer:
        first, kept, last = observer.connect(by_address).endpoints, 0, time.monotonic()
        until = last + 3  # far longer than it lasts
        while time.monotonic() < until:
            asked, found = time.monotonic(), observer.connect(by_balancer if kept % 2 else by_address).endpoints
            in_time = time.monotonic() - last < 1  # a busy machine may not manage that
            assert found == first or not in_time
            first, kept, last = found, kept + in_time, asked
        assert kept > 10, "the machine is too busy to tell"
        found, deadline = first, time.monotonic() + 60
        while found == first and time.monotonic() < deadline:
            time.sleep(1.5)  # nothing but time itself makes the kernel forget, and to ask would remind it
            found = observer.connect(by_address).endpoints
        assert found != first, "new draws among three never changed the endpoint"


def test_a_removed_endpoint_is_no_longer_chosen(tmp_path, kernel_namespaces):
    """AFF-04: the client's endpoint goes; the next connection draws among those that are left."""
    config = {"clientIP": {"timeoutSeconds": 600}}
    sticky = service("NodePort", sessionAffinity="ClientIP", sessionAffinityConfig=config)
    read = case("x", [sticky, BOTH], [flow(POD, f"{CIP}:80", "dnat", E1, E2)])
    (asked,) = read.stages[0].flows
    with open_observer(read, "iptables") as observer:
        proxier = Proxier("iptables", read.proxy_config(), observer, time.perf_counter, read.node)
        for event in read.stages[0].events:
            proxier.state.observe(*event)
        proxier.sync()
        ((had, _),) = observer.connect(asked).endpoints
        (left,) = {packed(E1), packed(E2)} - {had}
        stays = slice_(end(E1 if left == packed(E1) else E2))
        proxier.state.observe("MODIFIED", *case("y", [stays], []).stages[0].events[0][1:])
        proxier.sync()
        assert observer.connect(asked).endpoints == {(left, 80)}
