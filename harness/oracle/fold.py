"""The events' fold and the table of destinations that follows from it."""

from __future__ import annotations

import ipaddress

import msgspec

from harness.behaviour import Behaviour, Destination
from harness.events import OBJECT_TYPES, Event
from harness.oracle.rules import cluster_set, local_set, usable

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
IGNORED = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
LIMIT = 4095


def packed(text: str) -> bytes:
    """An address packed; octets with leading zeros are decimal."""
    if ":" not in text:
        text = ".".join(str(int(octet)) for octet in text.strip().split("."))
    return ipaddress.ip_address(text.strip()).packed


class Oracle:
    """Cluster state as plain manifests, seen from one node."""

    def __init__(self, node_name: str | None) -> None:
        self._node_name = node_name
        self._objects: dict[str, dict[tuple[str, str], dict]] = {"services": {}, "endpointslices": {}, "nodes": {}}
        self._node: dict = {}

    def observe(self, event: Event) -> None:
        """Fold one event; markers and other resources change nothing."""
        if event.type not in OBJECT_TYPES or event.resource not in self._objects:
            return
        manifest = msgspec.json.decode(event.object)
        meta = manifest["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if event.type == "DELETED":
            self._objects[event.resource].pop(key, None)
        else:
            self._objects[event.resource][key] = manifest
        if event.resource == "nodes" and meta["name"] == self._node_name:
            self._node = manifest

    def behaviour(self, family: int) -> Behaviour:
        """Everything the node must do in one family."""
        self._slices = self._slices_by_service(f"IPv{family}")
        size = 4 if family == 4 else 16
        destinations: dict = {}
        nodeports: dict = {}
        cluster_ips = set()
        for name in sorted(self._objects["services"]):
            service = self._objects["services"][name]
            cluster_ip = _cluster_ip(service, size)
            if cluster_ip is None:
                continue
            cluster_ips.add(cluster_ip)
            ports = service["spec"].get("ports") or ()
            for port in sorted(ports, key=lambda p: (p.get("name") or "", PROTOCOLS[p.get("protocol", "TCP")])):
                self._port(name, service, port, cluster_ip, size, destinations, nodeports)
        return Behaviour(destinations, nodeports, frozenset(cluster_ips), frozenset(self._addresses(size)))

    def _slices_by_service(self, address_type: str) -> dict[tuple[str, str], list[dict]]:
        grouped: dict[tuple[str, str], list[dict]] = {}
        for (namespace, _), manifest in sorted(self._objects["endpointslices"].items(), key=lambda item: item[0]):
            labels = manifest["metadata"].get("labels") or {}
            service = labels.get("kubernetes.io/service-name")
            if service and manifest.get("addressType") == address_type and not any(i in labels for i in IGNORED):
                grouped.setdefault((namespace, service), []).append(manifest)
        return grouped

    def _addresses(self, size: int) -> list[bytes]:
        listed = (self._node.get("status") or {}).get("addresses") or ()
        found = [packed(a["address"]) for a in listed if a["type"] == "InternalIP"]
        return [a for a in found if len(a) == size and not ipaddress.ip_address(a).is_loopback]

    def _zone(self) -> str:
        if ("", self._node_name) not in self._objects["nodes"]:
            return ""
        return (self._node["metadata"].get("labels") or {}).get("topology.kubernetes.io/zone", "")

    def _endpoints(self, name, port: dict, size: int) -> dict[tuple[bytes, int], dict]:
        wanted = (port.get("name") or "", port.get("protocol") or "TCP")
        found: dict[tuple[bytes, int], dict] = {}
        for manifest in self._slices.get(name, ()):
            for slice_port in manifest.get("ports") or ():
                offered = (slice_port.get("name"), slice_port.get("protocol") or "TCP")
                if offered != wanted or not slice_port.get("port"):
                    continue
                for endpoint in manifest.get("endpoints") or ():
                    address = packed(endpoint["addresses"][0]) if endpoint.get("addresses") else b""
                    here = endpoint.get("nodeName") == self._node_name
                    key = (address, slice_port["port"])
                    if len(address) == size and (key not in found or here):
                        found[key] = endpoint
        return found

    def _port(self, name, service, port, cluster_ip, size, destinations, nodeports) -> None:
        spec, number = service["spec"], port["port"]
        protocol = PROTOCOLS[port.get("protocol") or "TCP"]
        endpoints = self._endpoints(name, port, size)
        everywhere = cluster_set(endpoints, self._node_name, self._zone())
        here = local_set(endpoints, self._node_name)
        some = any(usable(e) for e in endpoints.values())
        inside = _outcome(here if spec.get("internalTrafficPolicy") == "Local" else everywhere, some)
        destinations.setdefault((cluster_ip, protocol, number), Destination(inside, inside, inside))
        open_to_all = _outcome(everywhere, some)
        external = _outcome(here, some) if _external_local(spec) else open_to_all
        balancers = [ip for ip in _balancer_ips(service) if len(ip) == size]
        plain = [packed(ip) for ip in spec.get("externalIPs") or () if ip.strip()]
        allowed = self._allowed(spec, balancers, size)
        for ip in balancers:
            destinations.setdefault((ip, protocol, number), Destination(open_to_all, open_to_all, external, allowed))
        for ip in plain:
            if len(ip) == size:
                destinations.setdefault((ip, protocol, number), Destination(open_to_all, open_to_all, external))
        if port.get("nodePort"):
            nodeports.setdefault((protocol, port["nodePort"]), Destination(open_to_all, open_to_all, external))

    def _allowed(self, spec: dict, balancers: list[bytes], size: int):
        networks = [ipaddress.ip_network(r.strip(), strict=False) for r in spec.get("loadBalancerSourceRanges") or ()]
        networks = [n for n in networks if len(n.network_address.packed) == size]
        if not networks:
            return None
        mine = self._node and self._all_internal(size)[:1]
        if mine and any(ipaddress.ip_address(mine[0]) in n for n in networks):
            networks += [ipaddress.ip_network(ip) for ip in balancers]
        kept = [n for n in set(networks) if not any(n != other and n.subnet_of(other) for other in networks)]
        return frozenset((n.network_address.packed, n.broadcast_address.packed) for n in kept)

    def _all_internal(self, size: int) -> list[bytes]:
        listed = (self._node.get("status") or {}).get("addresses") or ()
        return [a for a in (packed(x["address"]) for x in listed if x["type"] == "InternalIP") if len(a) == size]


def _outcome(targets: list, some: bool):
    if targets:
        return ("dnat", frozenset(sorted(targets)[:LIMIT]))
    return ("drop",) if some else ("reject",)


def _cluster_ip(service: dict, size: int) -> bytes | None:
    spec, labels = service["spec"], service["metadata"].get("labels") or {}
    headless = spec.get("clusterIP", "") in ("", "None") or spec.get("type") == "ExternalName"
    if headless or any(label in labels for label in IGNORED):
        return None
    listed = [packed(ip) for ip in spec.get("clusterIPs") or [spec["clusterIP"]]]
    return next((ip for ip in listed if len(ip) == size), None)


def _external_local(spec: dict) -> bool:
    reachable = spec.get("type") in ("NodePort", "LoadBalancer") or spec.get("externalIPs")
    return bool(reachable) and spec.get("externalTrafficPolicy") == "Local"


def _balancer_ips(service: dict) -> list[bytes]:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [packed(i["ip"]) for i in ingress if i.get("ip") and i.get("ipMode") != "Proxy"]
