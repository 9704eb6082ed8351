"""Session affinity by the real kernel's clock, and its price."""

from __future__ import annotations

import time

from engine.config import ProxyConfig
from engine.proxier import Proxier
from harness.modes import nftables
from harness.packets import open_witness
from harness.trace.run import Run

from .clusters import CIP, E1, E2, E3, LB, POD, case, end, flow, service, slice_


def sticky(seconds: int) -> dict:
    config = {"clientIP": {"timeoutSeconds": seconds}}
    return service("LoadBalancer", lb=[LB], sessionAffinity="ClientIP", sessionAffinityConfig=config)


def wait_until_forgotten(witness, deadline: float) -> None:
    """The kernel's own timeout empties the map in which it remembers the client."""
    listing = ["nft", "list", "map", "ip", "kube-proxy", "affinity-clients-1"]
    while b"expires" in witness.world.node.run(listing).stdout:
        assert time.monotonic() < deadline, "the client was never forgotten"


def test_a_client_keeps_its_endpoint_until_its_time_is_up(tmp_path, kernel_namespaces):
    flows = [flow(POD, f"{CIP}:80", "dnat", E1, E2, E3), flow(POD, f"{LB}:80", "dnat+", E1, E2, E3)]
    read = case(tmp_path, "x", [sticky(1), slice_(end(E1), end(E2), end(E3))], flows)
    with open_witness(read, "nftables") as witness:
        run = Run(read, "nftables", witness, (1, 35))
        run.enter(read.stages[0].events)
        by_address, by_balancer = read.stages[0].flows
        first = witness.connect(by_address).endpoints
        assert all(witness.connect(f).endpoints == first for f in (by_address, by_balancer) * 4)
        found, deadline = first, time.monotonic() + 30
        while found == first and time.monotonic() < deadline:
            wait_until_forgotten(witness, deadline)
            found = witness.connect(by_address).endpoints
        assert found != first, "thirty seconds of new draws among three never changed the endpoint"


def test_an_endpoint_that_left_is_chosen_no_more(tmp_path):
    opened = nftables.memory()
    proxier = Proxier("nftables", ProxyConfig(), opened.kernel, time.perf_counter, "n1")
    read = case(tmp_path, "x", [sticky(600), slice_(end(E1), end(E2))], [])
    for event in read.stages[0].events:
        proxier.state.observe(*event)
    proxier.sync()
    before = {name: dict(elements) for name, elements in opened.kernel.tables[4].items()}
    changed = case(tmp_path, "y", [slice_(end(E2), end(E3))], [])
    proxier.state.observe("MODIFIED", *changed.stages[0].events[0][1:])
    done = proxier.sync()
    after = opened.kernel.tables[4]
    assert len(before["affinity-members"]) == len(after["affinity-members"]) == 2
    assert len(before["affinity-members"].keys() & after["affinity-members"].keys()) == 1, "the one that stayed is kept"
    assert done.operations <= 8, "one endpoint for another costs a handful of elements"


def test_the_last_service_gone_leaves_no_ticket(tmp_path):
    opened = nftables.memory()
    proxier = Proxier("nftables", ProxyConfig(), opened.kernel, time.perf_counter, "n1")
    read = case(tmp_path, "x", [sticky(600), slice_(end(E1), end(E2))], [])
    for event in read.stages[0].events:
        proxier.state.observe(*event)
    proxier.sync()
    for _, resource, manifest in read.stages[0].events:
        proxier.state.observe("DELETED", resource, manifest)
    proxier.sync()
    left = {name for name, elements in opened.kernel.tables[4].items() if elements}
    assert left <= {"equal-bytes", "picks", "nodeport-ips"}
