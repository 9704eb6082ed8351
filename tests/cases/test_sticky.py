"""Session affinity by real connections, in both families of every mode: which endpoints answer repeated connections."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from harness.conformance.corpus.clusters import CIP, E1, E2, E3, LB, NODE_PORT, end, node, service, slice_
from tests.userspace.town import EXTERNAL, NODE, Town

TIMES = 10
PORT = 80
MODES = {
    "nftables": ("nftables", {}),
    "iptables-nft": ("iptables", {"variant": "nft"}),
    "iptables-legacy": ("iptables", {"variant": "legacy"}),
    "userspace": ("userspace", {}),
    "ipvs": ("ipvs", {}),
}


class Addresses(NamedTuple):
    """Of one family: client, cluster IP, balancer, node, and endpoints."""

    family: str
    client: str
    cluster: str
    balancer: str
    node: str
    endpoints: tuple[str, str, str]


V4 = Addresses("IPv4", EXTERNAL, CIP, LB, NODE, (E1, E2, E3))
V6 = Addresses(
    "IPv6", "2001:db8::2", "fd00:96::41", "2600:1::1", "2001:db8::1", ("fd00:10::a", "fd00:10::b", "fd00:10::c")
)


@pytest.fixture(params=[pytest.param(m, marks=pytest.mark.vm if m == "ipvs" else ()) for m in MODES])
def town(request, kernel_namespaces):
    mode, options = MODES[request.param]
    with Town(mode, **options) as made:
        yield made


def sticky(where: Addresses, **spec) -> dict:
    affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 100}}}
    return service("LoadBalancer", ip=where.cluster, ipFamilies=[where.family], lb=[where.balancer], **affinity, **spec)


def endpoints(where: Addresses, *ends: dict) -> dict:
    return slice_(*ends, family=where.family)


def change(proxier, manifest: dict) -> None:
    proxier.state.observe("MODIFIED", "endpointslices", json.dumps(manifest).encode())
    proxier.sync()


def who_answers(town: Town, where: Addresses, address: str, port: int = PORT) -> set[str]:
    return {town.ask(where.client, address, port)[0] for _ in range(TIMES)}


@pytest.mark.parametrize("where", [V4, V6], ids=lambda each: each.family)
def test_a_client_of_a_removed_endpoint_keeps_its_new_one(town, where):
    """AFF-01, AFF-04: the client moves to a remaining endpoint and stays there."""
    town.live(list(where.endpoints), PORT)
    everyone = [end(each) for each in where.endpoints]
    proxier = town.sync(node(), sticky(where), endpoints(where, *everyone))
    (first,) = who_answers(town, where, where.cluster)
    change(proxier, endpoints(where, *(each for each in everyone if each["addresses"] != [first])))
    (second,) = who_answers(town, where, where.cluster)
    assert second != first
    change(proxier, endpoints(where, *everyone))
    assert who_answers(town, where, where.cluster) == {second}, "that the first is back means nothing"


@pytest.mark.parametrize("where", [V4, V6], ids=lambda each: each.family)
def test_affinity_is_shared_by_all_addresses_of_a_port(town, where):
    """AFF-04: policy Local, and the client's endpoint is on another node."""
    town.live(list(where.endpoints), PORT)
    here, there = [end(each, "n1") for each in where.endpoints[:2]], end(where.endpoints[2], "n2")
    proxier = town.sync(node(), sticky(where, externalTrafficPolicy="Local"), endpoints(where, there))
    assert who_answers(town, where, where.cluster) == {where.endpoints[2]}
    change(proxier, endpoints(where, *here, there))
    assert who_answers(town, where, where.cluster) == {where.endpoints[2]}
    for address, port in ((where.balancer, PORT), (where.node, NODE_PORT), (where.balancer, PORT)):
        (local,) = who_answers(town, where, address, port)
        assert local in where.endpoints[:2]
    assert len(who_answers(town, where, where.cluster)) == 1
