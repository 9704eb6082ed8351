"""Converts state to manifests in the API's form, without fields that no proxy reads."""

from __future__ import annotations

from harness.kube.resources import BY_NAME, ENDPOINT_SLICES, HOSTNAME, NODES, SERVICE_NAME, SERVICES, ZONE
from harness.log.events import INITIAL_EVENTS_END, JsonObject
from harness.log.synth.addresses import node_ip, pod_cidrs, pod_ip
from harness.log.synth.model import Endpoint, Node, Service, Slice


def bookmark(resource: str, version: int) -> JsonObject:
    """The object of the BOOKMARK that ends `resource`'s initial list."""
    meta = {"resourceVersion": str(version), "annotations": {INITIAL_EVENTS_END: "true"}}
    return BY_NAME[resource].head | {"metadata": meta}


def node_manifest(node: Node, version: int, size: int, dual_stack: bool, ready: str = "True") -> JsonObject:
    """A Node; `size` is its podCIDR's, `ready` the Ready condition's status."""
    cidrs = pod_cidrs(node.index, size, dual_stack)
    labels = {HOSTNAME: node.name, ZONE: node.zone}
    addresses = [
        {"type": "InternalIP", "address": node_ip(node.index)},
        {"type": "Hostname", "address": node.name},
    ]
    return {
        **NODES.head,
        "metadata": {"name": node.name, "uid": node.uid, "resourceVersion": str(version), "labels": labels},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]},
    }


def service_manifest(service: Service, version: int) -> JsonObject:
    """A Service in its current state."""
    return {
        **SERVICES.head,
        "metadata": {
            "name": service.name,
            "namespace": service.namespace,
            "uid": service.uid,
            "resourceVersion": str(version),
            "labels": service.labels,
        },
        "spec": service.spec,
        "status": service.status,
    }


def slice_manifest(
    service: Service, piece: Slice, family: int, version: int, nodes: list[Node], size: int
) -> JsonObject:
    """The EndpointSlice of `piece` for family number `family` (0 IPv4, 1 IPv6).

    Without endpoints it is the controller's placeholder: null endpoints and ports.
    """
    address_type = ("IPv4", "IPv6")[family]
    ports = [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in service.target_ports]
    listed = [_endpoint(one, nodes[one.node], size, address_type) for one in piece.endpoints]
    if service.spec.get("trafficDistribution"):
        by_node = service.spec["trafficDistribution"] == "PreferSameNode"
        for one in listed:
            one["hints"] = {"forZones": [{"name": one["zone"]}]}
            if by_node:
                one["hints"]["forNodes"] = [{"name": one["nodeName"]}]
    meta = {
        "name": f"{service.name}-{piece.suffixes[family]}",
        "namespace": service.namespace,
        "uid": piece.uids[family],
        "resourceVersion": str(version),
        "labels": {SERVICE_NAME: service.name},
    }
    return {
        **ENDPOINT_SLICES.head,
        "metadata": meta,
        "addressType": address_type,
        "endpoints": listed or None,
        "ports": ports if listed else None,
    }


def _endpoint(one: Endpoint, node: Node, size: int, address_type: str) -> JsonObject:
    """One entry of an EndpointSlice's `endpoints`."""
    return {
        "addresses": [pod_ip(one.node, one.host, size, address_type)],
        "conditions": {"ready": one.ready, "serving": one.serving, "terminating": one.terminating},
        "nodeName": node.name,
        "zone": node.zone,
    }
