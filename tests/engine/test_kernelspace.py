"""The plan for Windows' Host Networking Service: golden pages, and any history leads to the same policies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backends.kernelspace import KernelspaceBackend
from engine.config import NEWEST
from engine.dataplane import Dataplane
from engine.model import HostAddresses
from engine.tracking import ClusterState
from harness.acceptance.cases import RESOURCES, proxy_config
from harness.conformance.corpus.clusters import E1, E2, E3, LB, end, node, service, slice_
from harness.judge.oracle import Settings
from tests.cases.strategies import clusters, settings_of_proxies
from tests.cases.test_differential import walk

GOLDEN = Path(__file__).parent / "golden"
CONFIG = proxy_config(Settings(cluster_cidr="10.0.0.0/8,fd00:10::/32"), NEWEST)
HTTP = [{"name": "http", "protocol": "TCP", "port": 8080}]
SIX = ["fd00:10::11", "fd00:10::12"]

PAGES = {
    "hns-cluster-ip.json": (4, [service(), slice_(end(E1, "n1"), end(E2, "n2"), ports=HTTP)], {}),
    "hns-local-policy.json": (
        4,
        [
            service("LoadBalancer", lb=[LB], externalTrafficPolicy="Local", sessionAffinity="ClientIP"),
            slice_(end(E1, "n1"), end(E2, "n2"), end(E3, "n3"), ports=HTTP),
        ],
        {"winkernel_source_vip": "10.0.0.9", "winkernel_enable_dsr": True},
    ),
    "hns-ipv6.json": (
        6,
        [
            service("NodePort", ip="fd00:96::10", ipFamilies=["IPv6"]),
            slice_(*map(end, SIX), family="IPv6", ports=HTTP),
        ],
        {},
    ),
    "hns-no-endpoints.json": (4, [service()], {}),
}


def planned(family: int, events, config=CONFIG, syncs: frozenset[int] = frozenset()):
    """Programs of each sync, the last one at the end."""
    state, dataplane, backend = ClusterState("n1"), Dataplane(family, config), KernelspaceBackend(family, config)
    programs = []
    for number, event in enumerate(events):
        state.observe(*event)
        if number in syncs:
            programs.append(backend.plan(dataplane.update(state, state.take_dirty()), HostAddresses()))
    programs.append(backend.plan(dataplane.update(state, state.take_dirty()), HostAddresses()))
    return programs


@pytest.mark.parametrize("name", PAGES)
def test_the_plan_equals_the_golden_file(name):
    family, objects, options = PAGES[name]
    events = [("ADDED", RESOURCES[each["kind"]], json.dumps(each).encode()) for each in [node(), *objects]]
    [program] = planned(family, events, replace(CONFIG, **options))
    assert program.text() == (GOLDEN / name).read_text()


@given(events=clusters(), again=clusters(), wanted=settings_of_proxies, syncs=st.frozensets(st.integers(0, 40)))
def test_incremental_plans_equal_the_plan_from_scratch(events, again, wanted, syncs):
    path, straight = walk(events, again)
    config = proxy_config(wanted, NEWEST)
    for family in (4, 6):
        endpoints, policies = set(), set()
        for program in planned(family, path, config, syncs):
            deleted = set(program.policies_deleted)
            assert deleted <= policies, "only what is there is deleted"
            policies = (policies - deleted) | set(program.policies_added)
            assert set(program.endpoints_deleted) <= endpoints
            endpoints = (endpoints - set(program.endpoints_deleted)) | set(program.endpoints_added)
        [scratch] = planned(family, straight, config)
        assert policies == set(scratch.policies_added)
        assert endpoints == set(scratch.endpoints_added)
        fronts = [(policy.vip, policy.protocol, policy.external_port) for policy in policies]
        assert len(fronts) == len(set(fronts)), "HNS takes a front once"
