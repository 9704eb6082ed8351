"""Hypothesis strategies for clusters and packets of every kind, including unusual ones."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from harness.judge.oracle import Settings
from harness.judge.oracle.settings import packed
from harness.judge.packet import Packet

NODE_IPS, LOCAL = ("192.168.0.2", "2001:db8::1"), ("127.0.0.1", "192.168.0.2", "192.168.1.2", "::1", "2001:db8::1")
CIDR = "10.0.0.0/8,fd00:10::/32"
PORTS = (("http", "TCP", 80), ("dns", "UDP", 53), ("sig", "SCTP", 53), ("", "TCP", 443))
FAMILIES = {"IPv4": ("172.30.0.{}", "192.168.99.{}", "1.2.3.{}", "10.1.0.{}"),
            "IPv6": ("fd00:96::{}", "fd00:99::{}", "fd00:1b::{}", "fd00:10::{}")}  # fmt: skip
POLICY = st.sampled_from(["Cluster", "Local", None])
GATES = ("LoadBalancerIPMode", "ServiceTrafficDistribution", "TopologyAwareHints",
         "PreferSameTrafficDistribution", "MultiCIDRServiceAllocator")  # fmt: skip
Event = tuple[str, str, bytes]

DETECTORS = [("ClusterCIDR", "")] * 3 + [("BridgeInterface", "pods0"), ("InterfaceNamePrefix", "pod")]
"""Ways to detect pods, with their interface."""

_plain_settings = st.builds(
    Settings,
    cluster_cidr=st.sampled_from([CIDR, CIDR, "", "fd00:10::/32"]),
    service_cidrs=st.sampled_from([(), ("172.30.0.0/16", "fd00:96::/112")]),
    masquerade_all=st.booleans(),
    node_port_addresses=st.sampled_from(
        [
            None,
            ("primary",),
            ("0.0.0.0/0", "::/0"),
            ("192.168.1.0/24",),
            ("2001:db8::/64", "9.0.0.0/8"),
            ("127.0.0.0/8", "192.168.0.0/24", "::1/128"),
        ]
    ),
    localhost_node_ports=st.booleans(),
    node_ips=st.just(NODE_IPS),
    local_addresses=st.just(LOCAL),
    feature_gates=st.dictionaries(st.sampled_from(GATES), st.booleans(), max_size=2),
)
settings_of_proxies = st.tuples(_plain_settings, st.sampled_from(DETECTORS)).map(
    lambda drawn: replace(drawn[0], detect_local_mode=drawn[1][0], pod_interface=drawn[1][1])
)


@st.composite
def services(draw, number: int) -> dict[str, Any]:
    """A Service with unique addresses and node ports."""
    families = draw(st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]]))
    ports = draw(st.lists(st.sampled_from(PORTS), unique=True, min_size=1, max_size=3))
    kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"]))
    cluster_ips = [FAMILIES[f][0].format(number) for f in families]
    spec: dict[str, Any] = {
        "type": kind,
        "ipFamilies": families,
        "clusterIPs": cluster_ips,
        "clusterIP": cluster_ips[0],
    }
    if draw(st.integers(0, 9)) == 0:
        spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
    node_ports = kind in ("NodePort", "LoadBalancer")
    spec["ports"] = [
        {"name": name, "protocol": protocol, "port": port, "nodePort": 30000 + 10 * number + i if node_ports else 0}
        for i, (name, protocol, port) in enumerate(ports)
    ]
    if draw(st.booleans()):
        spec["externalIPs"] = [FAMILIES[f][1].format(number) for f in ("IPv4", "IPv6")]
    spec |= {"externalTrafficPolicy": draw(POLICY), "internalTrafficPolicy": draw(POLICY)}
    if draw(st.integers(0, 2)) == 0:
        config = {"clientIP": {"timeoutSeconds": draw(st.sampled_from([1, 600, 10800]))}}
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}
    if draw(st.integers(0, 2)) == 0:
        blocks = ["203.0.113.0/25", "192.168.0.0/24", "10.0.0.0/9", "2600::/16"]
        spec["loadBalancerSourceRanges"] = draw(st.lists(st.sampled_from(blocks), max_size=2))
    ingress = [{"ip": FAMILIES[f][2].format(number), "ipMode": draw(st.sampled_from([None, "VIP", "Proxy"]))}
               for f in ("IPv4", "IPv6") if kind == "LoadBalancer" and draw(st.booleans())]  # fmt: skip
    meta: dict[str, Any] = {"namespace": "ns", "name": f"s{number}"}
    if draw(st.booleans()):
        meta["annotations"] = {"service.kubernetes.io/topology-mode": draw(st.sampled_from(["Auto", "disabled"]))}
    return {"kind": "Service", "metadata": meta, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}


@st.composite
def slices(draw, number: int, family: str, suffix: str) -> dict[str, Any]:
    """A slice of Service `number`; conditions, nodes and hints in every combination."""
    flag = st.sampled_from([None, True, True, False])
    names = st.sampled_from(["a", "b"])
    ends = []
    for host in draw(st.lists(st.integers(1, 6), max_size=4)):
        hints = {"forZones": [{"name": draw(names)}], "forNodes": [{"name": draw(st.sampled_from(["n1", "n2"]))}]}
        ends.append({
            "addresses": [FAMILIES[family][3].format(10 * number + host)],
            "conditions": {"ready": draw(flag), "serving": draw(flag), "terminating": draw(flag)},
            "nodeName": draw(st.sampled_from(["n1", "n2", None])),
            "hints": {k: v for k, v in hints.items() if draw(st.integers(0, 3))},
        })  # fmt: skip
    ports = [{"name": n, "protocol": p, "port": port + 8000} for n, p, port in PORTS if draw(st.integers(0, 5))]
    meta = {"namespace": "ns", "name": f"s{number}-{suffix}", "labels": {"kubernetes.io/service-name": f"s{number}"}}
    return {"kind": "EndpointSlice", "metadata": meta, "addressType": family, "endpoints": ends, "ports": ports}


@st.composite
def clusters(draw, largest: int = 3) -> list[Event]:
    """Events that add a node, Services and slices."""
    node = {"kind": "Node", "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
            "status": {"addresses": [{"type": "InternalIP", "address": a} for a in NODE_IPS]}}  # fmt: skip
    found: list[tuple[str, dict]] = [("nodes", node)]
    for number in range(1, draw(st.integers(1, largest)) + 1):
        found.append(("services", draw(services(number))))
        for family, suffix in itertools.product(FAMILIES, ("x", "y")):
            if draw(st.integers(0, 3)):
                found.append(("endpointslices", draw(slices(number, family, f"{suffix}{family[-1]}"))))
    return [("ADDED", resource, json.dumps(manifest).encode()) for resource, manifest in found]


def packets(events: list[Event]) -> list[Packet]:
    """Packets from a pod, an external client, one in a source range, the node and an endpoint, to any destination."""
    sources = {4: ["10.0.0.2", "203.0.113.2", "203.0.113.200", "192.168.0.2", "10.1.0.11"],
               6: ["fd00:10::2", "2600::1", "2a00::1", "2001:db8::1", "fd00:10::11"]}  # fmt: skip
    targets: set[tuple[str, int, int]] = set()
    for number, (protocol, port) in itertools.product(range(1, 4), ((6, 80), (17, 53), (132, 53), (6, 443), (17, 80))):
        targets |= {(form.format(number), protocol, port) for forms in FAMILIES.values() for form in forms[:3]}
    node_ports = [
        port for _, resource, raw in events if resource == "services" for port in json.loads(raw)["spec"]["ports"]
    ]
    numbers = {"TCP": 6, "UDP": 17, "SCTP": 132}
    for port in node_ports:
        if port["nodePort"]:
            targets |= {(address, numbers[port["protocol"]], port["nodePort"]) for address in LOCAL}
    targets |= {("172.30.9.9", 6, 80), ("172.31.0.1", 6, 80), ("fd00:96::99", 6, 80)}
    found = []
    for target, protocol, port in sorted(targets):
        for source in sources[6 if ":" in target else 4]:
            own = source in LOCAL
            came_by = "" if own else "pods0" if source.startswith(("10.", "fd")) else "eth0"
            found.append(Packet(packed(source), packed(target), protocol, port, own, target in LOCAL, came_by))
    return found
