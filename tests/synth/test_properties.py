"""Properties of every synthetic recording."""

import ipaddress
import json
import os
import re
import statistics
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.log.events import FORMAT
from harness.log.synth import SynthOptions, generate

OPTIONS = st.builds(
    SynthOptions,
    services=st.integers(1, 15),
    endpoints_per_service=st.one_of(st.none(), st.sampled_from([0, 1, 4, 101])),
    churn=st.integers(0, 150),
    nodes=st.integers(1, 12),
    zones=st.integers(1, 4),
    dual_stack=st.booleans(),
    rich=st.booleans(),
    seed=st.integers(0, 2**32),
)


def read(options):
    """[(event, manifest), ...]"""
    return [(event, json.loads(bytes(event.object))) for event in generate(options)[1]]


def key(event, manifest):
    meta = manifest["metadata"]
    return event.resource, meta.get("namespace"), meta["name"]


def without_version(manifest):
    meta = {name: value for name, value in manifest["metadata"].items() if name != "resourceVersion"}
    return {**manifest, "metadata": meta}


def check_live(live, options):
    """Addresses and ports have one holder, slices a Service, endpoints sane conditions."""
    services = [one for (kind, *_), one in live.items() if kind == "services"]
    ips = [ip for one in services for ip in one["spec"].get("clusterIPs", ()) if ip != "None"]
    ports = [port["nodePort"] for one in services for port in one["spec"].get("ports", ()) if "nodePort" in port]
    ports += [one["spec"]["healthCheckNodePort"] for one in services if "healthCheckNodePort" in one["spec"]]
    assert len(set(ips)) == len(ips) and len(set(ports)) == len(ports)
    assert all(30_000 <= port <= 32_767 for port in ports)
    pods = []
    for (kind, namespace, _), one in live.items():
        if kind != "endpointslices":
            continue
        assert ("services", namespace, one["metadata"]["labels"]["kubernetes.io/service-name"]) in live
        assert len(one["endpoints"] or ()) <= 100
        for endpoint in one["endpoints"] or ():
            assert not (endpoint["conditions"]["ready"] and endpoint["conditions"]["terminating"])
            pods += endpoint["addresses"]
    assert len(set(pods)) == len(pods)


@settings(max_examples=25, deadline=None)
@given(OPTIONS)
def test_generated_objects_are_consistent(options):
    live, version, markers = {}, 0, []
    recording = read(options)
    for event, manifest in recording:
        if event.type == "BOOKMARK":
            assert event.ends_initial_list and event.t == 0
            markers.append(event.resource)
            continue
        place = key(event, manifest)
        assert (place in live) == (event.type != "ADDED")
        assert int(manifest["metadata"]["resourceVersion"]) > version
        version = int(manifest["metadata"]["resourceVersion"])
        if event.type == "DELETED":
            assert without_version(live.pop(place)) == without_version(manifest)
        else:
            assert place not in live or live[place]["metadata"]["uid"] == manifest["metadata"]["uid"]
            live[place] = manifest
    assert markers == ["nodes", "services", "endpointslices"]
    check_live(live, options)
    assert [event.seq for event, _ in recording] == list(range(1, len(recording) + 1))
    churn = [event for event, _ in recording[len(recording) - options.churn :]]
    assert all(before.t < after.t for before, after in pairwise(churn))
    assert sum(event.type == "BOOKMARK" for event in churn) == 0


@settings(max_examples=10, deadline=None)
@given(OPTIONS)
def test_names_and_addresses(options):
    nodes = {}
    for event, manifest in read(options):
        if event.type == "BOOKMARK":
            continue
        if event.resource == "nodes":
            cidrs = [ipaddress.ip_network(cidr) for cidr in manifest["spec"]["podCIDRs"]]
            nodes[manifest["metadata"]["name"]] = cidrs
            continue
        pattern = r"[a-z]([-a-z0-9]*[a-z0-9])?" if event.resource == "services" else r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
        assert re.fullmatch(pattern, manifest["metadata"]["name"]) and len(manifest["metadata"]["name"]) <= 63
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["namespace"])
        for endpoint in manifest.get("endpoints") or ():
            address = ipaddress.ip_address(endpoint["addresses"][0])
            assert str(address) == endpoint["addresses"][0]
            assert any(address in cidr for cidr in nodes[endpoint["nodeName"]])
            assert manifest["addressType"] == f"IPv{address.version}"
        for ip in manifest.get("spec", {}).get("clusterIPs", ()):
            if ip != "None":
                assert str(ipaddress.ip_address(ip)) == ip
                cidrs = generate(options)[0].cluster["serviceCIDRs"]
                assert any(ipaddress.ip_address(ip) in ipaddress.ip_network(cidr) for cidr in cidrs)


def test_same_bytes_under_any_hash_seed():
    code = (
        "import hashlib, msgspec; from harness.log.synth import *\n"
        "h, e = generate(SynthOptions(services=60, churn=300, nodes=8, dual_stack=True, seed=5))\n"
        "print(hashlib.sha256(b''.join(map(msgspec.json.encode, [h, *e]))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }  # fmt: skip
    assert len(digests) == 1
    assert all(re.fullmatch(r"[0-9a-f]{64}\n", digest) for digest in digests)


def test_long_tail_and_mix_at_ten_thousand():
    counts, kinds = {}, {}
    for event, manifest in read(SynthOptions(churn=0)):
        if event.type == "BOOKMARK" or event.resource == "nodes":
            continue
        if event.resource == "services":
            kinds[manifest["spec"]["type"]] = kinds.get(manifest["spec"]["type"], 0) + 1
            continue
        owner = manifest["metadata"]["namespace"], manifest["metadata"]["labels"]["kubernetes.io/service-name"]
        counts[owner] = counts.get(owner, 0) + len(manifest["endpoints"] or ())
    assert sum(counts.values()) >= 40_000
    assert 3 <= statistics.median(counts.values()) <= 5
    assert 100 < max(counts.values()) <= 250
    assert 0.02 < sum(not count for count in counts.values()) / len(counts) < 0.04
    assert 300 < kinds["NodePort"] < 500 and 200 < kinds["LoadBalancer"] < 400 and kinds["ExternalName"] > 50


def test_default_churn_has_every_kind_of_change():
    header, events = generate(SynthOptions(services=300, churn=3_000, nodes=20))
    seen = {(event.type, event.resource) for event in events}
    for resource in ("services", "endpointslices"):
        assert {("ADDED", resource), ("MODIFIED", resource), ("DELETED", resource)} <= seen
    assert ("DELETED", "nodes") in seen
    assert header.format == FORMAT and header.start == "2026-01-01T00:00:00Z"
    assert header.generator["name"] == "synth" and header.generator["seed"] == 1


def test_dual_stack_pairs_slices_and_addresses():
    options = SynthOptions(services=30, churn=0, nodes=4, dual_stack=True, seed=3)
    families = {"IPv4": 0, "IPv6": 0}
    for event, manifest in read(options):
        if event.resource == "endpointslices" and event.type == "ADDED":
            families[manifest["addressType"]] += 1
        spec = manifest.get("spec", {})
        if event.resource == "services" and spec.get("clusterIP", "None") != "None":
            assert [ipaddress.ip_address(ip).version for ip in spec["clusterIPs"]] == [4, 6]
            assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    assert families["IPv4"] == families["IPv6"] > 0
    assert generate(options)[0].cluster["clusterCIDR"] == "10.128.0.0/9,fd00:10:128::/48"


def test_node_ports_run_out_without_duplicates():
    live = {}
    for event, manifest in read(SynthOptions(services=45_000, endpoints_per_service=0, churn=0)):
        if event.resource == "services" and event.type == "ADDED":
            live[key(event, manifest)] = manifest
    check_live(live, None)
    balancers = [one["spec"] for one in live.values() if one["spec"]["type"] == "LoadBalancer"]
    assert any(not spec["allocateLoadBalancerNodePorts"] for spec in balancers)


@pytest.mark.parametrize(
    "bad", [{"services": 0}, {"churn": -1}, {"nodes": 0}, {"zones": 27}, {"endpoints_per_service": -1},
            {"services": 500_000, "endpoints_per_service": 1_000}]
)  # fmt: skip
def test_bad_options(bad):
    with pytest.raises(ValueError):
        SynthOptions(**bad)
