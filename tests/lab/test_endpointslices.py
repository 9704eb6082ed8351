"""The EndpointSlice controller and what the observer asks because of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.lab.control_plane.endpointslices import LARGEST_SLICE, same, slices_of
from harness.lab.dataplane.observer import questions, used_addresses
from harness.lab.topology import LabOptions, pod_manifest, service_manifests

WEB = service_manifests()[0]
ZONES = {"node-1": "zone-a", "node-2": "zone-b"}


def pod(number: int, ready: bool = True, terminating: bool = False, address: bool = True, node: str = "node-1") -> dict:
    manifest = pod_manifest(f"web-{number}", node, LabOptions())
    manifest["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    if address:
        manifest["status"]["podIP"] = f"10.120.1.{number}" if number < 250 else f"10.120.2.{number - 240}"
    if terminating:
        manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return manifest


def test_endpoint_conditions_follow_the_pod():
    pods = [pod(1), pod(2, ready=False), pod(3, terminating=True), pod(4, ready=False, terminating=True)]
    (piece,) = slices_of(WEB, pods, ZONES)
    built = [tuple(e["conditions"][word] for word in ("ready", "serving", "terminating")) for e in piece["endpoints"]]
    assert built == [(True, True, False), (False, False, False), (False, True, True), (False, False, True)]
    assert piece["endpoints"][0]["nodeName"] == "node-1"
    assert piece["endpoints"][0]["zone"] == "zone-a"


def test_pods_without_an_address_or_of_another_app_are_left_out():
    other = pod(2)
    other["metadata"]["labels"] = {"app": "other"}
    (piece,) = slices_of(WEB, [pod(1, address=False), other], ZONES)
    assert piece["endpoints"] == []


def test_ports_are_the_targets_by_name():
    (piece,) = slices_of(WEB, [pod(1)], ZONES)
    assert [(p["name"], p["protocol"], p["port"]) for p in piece["ports"]] == [
        ("http", "TCP", 8080), ("tcp", "TCP", 9090), ("udp", "UDP", 9091),
    ]  # fmt: skip


def test_hints_need_the_policy_and_every_zone():
    near = {**WEB, "spec": {**WEB["spec"], "trafficDistribution": "PreferClose"}}
    (piece,) = slices_of(near, [pod(1), pod(2, node="node-2")], ZONES)
    assert [e["hints"]["forZones"][0]["name"] for e in piece["endpoints"]] == ["zone-a", "zone-b"]
    assert "hints" not in slices_of(near, [pod(1, node="nowhere")], ZONES)[0]["endpoints"][0]
    assert "hints" not in slices_of(WEB, [pod(1)], ZONES)[0]["endpoints"][0]


@given(count=st.integers(0, 3 * LARGEST_SLICE))
def test_only_the_last_slice_is_not_full_and_no_pod_is_missing(count):
    pieces = slices_of(WEB, [pod(n) for n in range(1, count + 1)], ZONES)
    assert all(len(piece["endpoints"]) == LARGEST_SLICE for piece in pieces[:-1])
    assert sum(len(piece["endpoints"]) for piece in pieces) == count
    assert len({piece["metadata"]["name"] for piece in pieces}) == len(pieces)


def test_slices_are_compared_without_their_timestamp():
    assert same(slices_of(WEB, [pod(1)], ZONES, "a")[0], slices_of(WEB, [pod(1)], ZONES, "b")[0])
    assert not same(slices_of(WEB, [pod(1)], ZONES)[0], slices_of(WEB, [pod(1, ready=False)], ZONES)[0])


def test_questions_cover_every_expected_change():
    assert questions({"a": True, "b": True}, {"a": False, "b": True}) == {"a": False}
    assert questions({"a": False, "b": True}, {"a": True, "b": True}) == {"a": True}
    assert questions({"a": True, "b": True}, {"b": True, "c": True}) == {"a": False, "c": True}
    assert questions({"a": True}, {"a": False}) == {}, "nobody else is ready: it may stay in use"
    assert questions({"a": True}, {"a": True}) == {}


def test_used_addresses_are_those_of_the_conditions():
    pieces = slices_of(WEB, [pod(1), pod(2, ready=False)], ZONES)
    assert used_addresses(pieces, "node-1") == {"10.120.1.1": True, "10.120.1.2": False}


def test_a_node_with_only_draining_endpoints_keeps_using_them():
    """For policy Local (KEP-1669); other policies stop using them at once."""
    piece = slices_of(WEB, [pod(1), pod(2)], ZONES)[0]
    for endpoint, node in zip(piece["endpoints"], ("node-1", "node-2"), strict=True):
        endpoint["nodeName"] = node
    piece["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    address, other = (endpoint["addresses"][0] for endpoint in piece["endpoints"])
    assert used_addresses([piece], "node-1") == {address: True, other: True}
    assert used_addresses([piece], "node-2") == {address: False, other: True}


def test_a_named_target_port_is_each_pods_own():
    other = pod(2)
    other["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 9999}]
    nameless = pod(3)
    nameless["spec"]["containers"][0]["ports"] = []
    service = {**WEB, "spec": {**WEB["spec"], "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}}
    made = [(piece["ports"], len(piece["endpoints"])) for piece in slices_of(service, [pod(1), other, nameless], ZONES)]
    named = [{"name": "web", "protocol": "TCP", "port": 8080}], [{"name": "web", "protocol": "TCP", "port": 9999}]
    assert made == [(named[0], 1), (named[1], 1), ([], 1)]


def test_a_service_of_ipv6_alone_has_no_endpoints_here():
    assert slices_of({**WEB, "spec": {**WEB["spec"], "ipFamilies": ["IPv6"]}}, [pod(1)], ZONES) == []
