"""The committed recordings are what the generator makes."""

import functools
import json
from collections import Counter
from pathlib import Path

import pytest

from harness.log.events import OBJECT_TYPES
from harness.log.synth import SynthOptions, generate
from harness.log.synth.committed import COMMITTED, make

RECORDINGS = Path(__file__).parents[2] / "recordings"
LIMITS = {"10k-svc.jsonl": 30_000_000, "demo.jsonl": 300_000, "rules.jsonl": 360_000}


def test_the_files_are_the_generators_byte_for_byte(tmp_path):
    assert set(LIMITS) == set(COMMITTED) == {path.name for path in RECORDINGS.glob("*.jsonl")}
    for path in make(tmp_path):
        assert path.read_bytes() == (RECORDINGS / path.name).read_bytes(), path.name
        assert path.stat().st_size < LIMITS[path.name]


def test_the_large_one_is_what_the_command_makes_by_default():
    header, _ = generate(SynthOptions())
    assert COMMITTED["10k-svc.jsonl"]()[0] == header


@functools.cache
def states(name):
    """Objects by resource at the end of the initial list, and at the recording's end."""
    live, initial = {}, None
    for event in COMMITTED[name]()[1]:
        if event.type not in OBJECT_TYPES:
            continue
        if event.t and initial is None:
            initial = dict(live)
        manifest = json.loads(bytes(event.object))
        key = event.resource, manifest["metadata"].get("namespace"), manifest["metadata"]["name"]
        if event.type == "DELETED":
            del live[key]
        else:
            live[key] = manifest
    return initial, live


def services(state):
    return [one for (resource, *_), one in state.items() if resource == "services"]


def nodes(state):
    return [one for (resource, *_), one in state.items() if resource == "nodes"]


def endpoints(state):
    slices = [one for (resource, *_), one in state.items() if resource == "endpointslices"]
    return [endpoint for one in slices for endpoint in one["endpoints"] or ()]


def ports(state):
    """(Service's spec, port) of every port."""
    return [(one["spec"], port) for one in services(state) for port in one["spec"].get("ports") or ()]


def ingress(state):
    return [
        one
        for service in services(state)
        for one in service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    ]


def has(state, **fields):
    return any(all(one["spec"].get(name) == value for name, value in fields.items()) for one in services(state))


RICH = {
    "source ranges": lambda state: any(one["spec"].get("loadBalancerSourceRanges") for one in services(state)),
    "ipMode": lambda state: {"VIP", "Proxy"} <= {one.get("ipMode") for one in ingress(state)},
    "two external addresses": lambda state: any(len(one["spec"].get("externalIPs", ())) > 1 for one in services(state)),
    "UDP node ports": lambda state: any(p["protocol"] == "UDP" and "nodePort" in p for _, p in ports(state)),
    "hints for zones": lambda state: any(one.get("hints", {}).get("forZones") for one in endpoints(state)),
    "draining endpoints": lambda state: any(one.get("conditions", {}).get("terminating") for one in endpoints(state)),
    "IPv6": lambda state: any("IPv6" in one["spec"].get("ipFamilies", ()) for one in services(state)),
    "external policy Local": lambda state: has(state, externalTrafficPolicy="Local"),
    "internal policy Local": lambda state: has(state, internalTrafficPolicy="Local"),
    "affinity": lambda state: has(state, sessionAffinity="ClientIP"),
    "headless": lambda state: has(state, clusterIP="None"),
    "ExternalName": lambda state: has(state, type="ExternalName"),
}
EVERY = RICH | {
    "IPv6 alone": lambda state: has(state, ipFamilies=["IPv6"]),
    "IPv4 alone": lambda state: has(state, ipFamilies=["IPv4"]),
    "IPv6 first": lambda state: has(state, ipFamilies=["IPv6", "IPv4"]),
    "dual stack": lambda state: has(state, ipFamilies=["IPv4", "IPv6"]),
    "a listed source that is a node": lambda state: any(
        "192.168.0.0/16" in one["spec"].get("loadBalancerSourceRanges", ()) for one in services(state)
    ),
    "no ipMode, and a hostname": lambda state: any("ipMode" not in one for one in ingress(state))
    and any("hostname" in one for one in ingress(state)),
    "several balancer addresses": lambda state: any(
        len(one.get("status", {}).get("loadBalancer", {}).get("ingress", ())) > 2 for one in services(state)
    ),
    "no node ports for a balancer": lambda state: has(state, allocateLoadBalancerNodePorts=False),
    "health check node port": lambda state: any("healthCheckNodePort" in one["spec"] for one in services(state)),
    "protocols": lambda state: {port["protocol"] for _, port in ports(state)} == {"TCP", "UDP", "SCTP"},
    "SCTP node port": lambda state: any(p["protocol"] == "SCTP" and "nodePort" in p for _, p in ports(state)),
    "one number for two protocols": lambda state: any(
        len({port["port"] for port in listed}) < len(listed)
        for listed in (one["spec"].get("ports") or () for one in services(state))
    ),
    "named and numeric targets": lambda state: {type(port["targetPort"]) for _, port in ports(state)} == {str, int},
    "affinity of several lengths": lambda state: len(
        {str(one["spec"].get("sessionAffinityConfig")) for one in services(state)}
    ) > 3,
    "publishNotReadyAddresses": lambda state: has(state, publishNotReadyAddresses=True),
    "hints for nodes": lambda state: any(one.get("hints", {}).get("forNodes") for one in endpoints(state)),
    "conditions that are nil": lambda state: any("conditions" not in one for one in endpoints(state))
    and any(one.get("conditions") == {} for one in endpoints(state)),
    "another proxy's": lambda state: any(
        "service.kubernetes.io/service-proxy-name" in one["metadata"]["labels"] for one in services(state)
    ),
    "an address in two slices": lambda state: len({str(e["addresses"]) for e in endpoints(state)})
    < len(endpoints(state)),
    "two addresses per family": lambda state: all(
        len([a for a in one["status"]["addresses"] if a["type"] == "InternalIP"]) == 4 for one in nodes(state)
    ),
    "a Service without families": lambda state: any("ipFamilies" not in one["spec"] for one in services(state)),
    "a node port of two protocols": lambda state: (
        len({(p["protocol"], p["nodePort"]) for _, p in ports(state) if "nodePort" in p})
        > len({p["nodePort"] for _, p in ports(state) if "nodePort" in p})
    ),
    "more ports of one affinity timeout than share a block": lambda state: any(
        len(one["spec"].get("ports") or ()) > 16 and one["spec"].get("sessionAffinity") == "ClientIP"
        for one in services(state)
    ),
    "hundreds of endpoints, without nodes": lambda state: sum("nodeName" not in one for one in endpoints(state)) > 256,
    "an address and port of two Services": lambda state: max(
        Counter(
            (address, port["port"], port["protocol"])
            for one in services(state)
            for address in one["spec"].get("externalIPs", ())
            for port in one["spec"]["ports"]
        ).values()
    ) > 1,
    "zones": lambda state: len({one["metadata"]["labels"]["topology.kubernetes.io/zone"] for one in nodes(state)}) > 1,
}  # fmt: skip


@pytest.mark.parametrize("kind", RICH)
def test_the_demo_has_it_at_the_start_and_at_the_end(kind):
    assert [RICH[kind](state) for state in states("demo.jsonl")] == [True, True]


@pytest.mark.parametrize("kind", EVERY)
def test_rules_has_it_at_the_start_and_at_the_end(kind):
    assert [EVERY[kind](state) for state in states("rules.jsonl")] == [True, True]
