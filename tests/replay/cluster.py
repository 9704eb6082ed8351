"""A small cluster as a recording: one Service of each kind that packets can tell apart, and changes to it."""

from __future__ import annotations

import json
from pathlib import Path

NODE = "node-1"
HERE, AWAY = ["10.128.1.11", "10.128.1.12"], ["10.128.2.11"]
BALANCER, EXTERNAL, NODE_PORT = "192.0.2.20", "192.0.2.10", 30080


def service(name: str, ip: str, port: int = 80, protocol: str = "TCP", **spec) -> dict:
    ports = [{"name": "p", "port": port, "protocol": protocol, "targetPort": 8080}]
    if spec.get("type", "ClusterIP") != "ClusterIP":
        ports[0]["nodePort"] = spec.pop("node_port", NODE_PORT)
    status = {"loadBalancer": {"ingress": [{"ip": ip} for ip in spec.pop("balancers", [])]}}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ports": ports,
            **spec,
        },
        "status": status,
    }


def piece(name: str, addresses: list[str], protocol: str = "TCP", version: int = 1) -> dict:
    ends = [
        {"addresses": [a], "conditions": {"ready": True}, "nodeName": NODE if a in HERE else "node-2"}
        for a in addresses
    ]
    labels = {"kubernetes.io/service-name": name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": f"{name}-1", "namespace": "ns", "uid": f"{name}-1", "labels": labels}
        | {"resourceVersion": str(version)},
        "endpoints": ends,
        "ports": [{"name": "p", "port": 8080, "protocol": protocol}],
    }


def node() -> dict:
    addresses = [{"type": "InternalIP", "address": "192.168.7.1"}, {"type": "Hostname", "address": NODE}]
    meta = {"name": NODE, "uid": NODE, "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}, "status": {"addresses": addresses}}


OBJECTS = [
    node(),
    service("web", "10.96.0.1", type="NodePort", externalIPs=[EXTERNAL]),
    piece("web", HERE + AWAY),
    service("dns", "10.96.0.2", 53, "UDP"),
    piece("dns", HERE + AWAY, "UDP"),
    service(
        "lb", "10.96.0.3", type="LoadBalancer", externalTrafficPolicy="Local", balancers=[BALANCER], node_port=30081,
        loadBalancerSourceRanges=["203.0.113.0/24"],
    ),
    piece("lb", HERE[:1] + AWAY),
    service("sticky", "10.96.0.4", sessionAffinity="ClientIP"),
    piece("sticky", HERE + AWAY),
    service("empty", "10.96.0.5"),
    service("away", "10.96.0.6", type="NodePort", externalTrafficPolicy="Local", node_port=30082),
    piece("away", AWAY),
]  # fmt: skip


def recording(path: Path, *changes: tuple[float, str, dict]) -> str:
    """OBJECTS, then changes: (second, type, manifest)."""
    resources = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}
    header = {"format": "kube-proxy-harness/recording", "version": 1, "resources": list(resources.values())}
    header["cluster"] = {"clusterCIDR": "10.128.0.0/9", "serviceCIDRs": ["10.96.0.0/12"]}
    end = {"metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}}
    events = [(0.0, "ADDED", resources[each["kind"]], each) for each in OBJECTS]
    events += [(0.0, "BOOKMARK", resource, end) for resource in resources.values()]
    events += [(at, kind, resources[each["kind"]], each) for at, kind, each in changes]
    lines = [
        {"seq": number, "t": int(at * 1e9), "type": kind, "resource": resource, "object": each}
        for number, (at, kind, resource, each) in enumerate(events, 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    return str(path)
