"""Session affinity by the real kernel's clock, and its price."""

from __future__ import annotations

import time

from engine.config import ProxyConfig
from engine.proxier import Proxier
from harness.acceptance.observer import open_observer
from harness.acceptance.run import CaseRun
from harness.conformance.corpus.clusters import CIP, E1, E2, E3, LB, POD, end, flow, service, slice_
from harness.judge.readback.nftables_judge import VERDICTS
from harness.modes import nftables
from tests.cases.made import case


def sticky(seconds: int) -> dict:
    config = {"clientIP": {"timeoutSeconds": seconds}}
    return service("LoadBalancer", lb=[LB], sessionAffinity="ClientIP", sessionAffinityConfig=config)


def wait_until_forgotten(observer, deadline: float) -> None:
    """The kernel's timeout removes the client's entry from the map."""
    listing = ["nft", "list", "map", "ip", "kube-proxy", "sticky-cluster-clients"]
    while b"expires" in observer.world.node.run(listing).stdout:
        assert time.monotonic() < deadline, "the client was never forgotten"


def test_a_client_keeps_its_endpoint_until_the_affinity_timeout(tmp_path, kernel_namespaces):
    flows = [flow(POD, f"{CIP}:80", "dnat", E1, E2, E3), flow(POD, f"{LB}:80", "dnat+", E1, E2, E3)]
    read = case("x", [sticky(1), slice_(end(E1), end(E2), end(E3))], flows)
    with open_observer(read, "nftables") as observer:
        run = CaseRun(read, "nftables", observer, (1, 35))
        run.enter(read.stages[0].events)
        by_address, by_balancer = read.stages[0].flows
        first = observer.connect(by_address).endpoints
        assert all(observer.connect(f).endpoints == first for f in (by_address, by_balancer) * 4)
        found, deadline = first, time.monotonic() + 30
        while found == first and time.monotonic() < deadline:
            wait_until_forgotten(observer, deadline)
            found = observer.connect(by_address).endpoints
        assert found != first, "thirty seconds of new draws among three never changed the endpoint"


def test_a_removed_endpoint_is_no_longer_chosen(tmp_path):
    opened = nftables.memory()
    proxier = Proxier("nftables", ProxyConfig(), opened.kernel, time.perf_counter, "n1")
    read = case("x", [sticky(600), slice_(end(E1), end(E2))], [])
    for event in read.stages[0].events:
        proxier.state.observe(*event)
    proxier.sync()
    before = {name: dict(elements) for name, elements in opened.kernel.tables[4].items()}
    changed = case("y", [slice_(end(E2), end(E3))], [])
    proxier.state.observe("MODIFIED", *changed.stages[0].events[0][1:])
    done = proxier.sync()
    after = opened.kernel.tables[4]
    assert len(before["sticky-cluster-members"]) == len(after["sticky-cluster-members"]) == 2
    assert len(before["sticky-cluster-members"].keys() & after["sticky-cluster-members"].keys()) == 1, (
        "the one that stayed is kept"
    )
    assert done.operations <= 8, "one endpoint for another costs a handful of elements"


def test_deleting_the_last_service_leaves_no_ticket(tmp_path):
    opened = nftables.memory()
    proxier = Proxier("nftables", ProxyConfig(), opened.kernel, time.perf_counter, "n1")
    read = case("x", [sticky(600), slice_(end(E1), end(E2))], [])
    for event in read.stages[0].events:
        proxier.state.observe(*event)
    proxier.sync()
    for _, resource, manifest in read.stages[0].events:
        proxier.state.observe("DELETED", resource, manifest)
    proxier.sync()
    left = {name for name, elements in opened.kernel.tables[4].items() if elements}
    assert left <= {"equal-bytes", "nodeport-ips", *VERDICTS}
