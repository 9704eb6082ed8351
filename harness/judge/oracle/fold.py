"""The events' fold and the table of destinations that follows from it."""

from __future__ import annotations

import ipaddress

import msgspec

from harness.behaviour import Behaviour, Destination
from harness.events import OBJECT_TYPES, Event
from harness.oracle.frontends import Port
from harness.oracle.rules import Hints, cluster_set, local_set, usable
from harness.oracle.settings import PROTOCOLS, Settings, block, packed

IGNORED = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
TOPOLOGY_MODES = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
DEFAULT_AFFINITY_SECONDS = 10800
HOLDING_ADDRESSES = ("ipvs", "userspace")
"""Modes in which a Service's addresses become local ones."""


class Oracle:
    """Cluster state as plain manifests, seen from one node: the first one observed where none is named."""

    def __init__(self, node_name: str | None, settings: Settings | None = None) -> None:
        self._node_name = node_name
        self.settings = settings or Settings()
        self._objects: dict[str, dict[tuple[str, str], dict]] = {"services": {}, "endpointslices": {}, "nodes": {}}
        self._node: dict = {}
        self._mode = "nftables"

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
        if event.resource == "nodes":
            self._node_name = self._node_name or meta["name"]
            if meta["name"] == self._node_name:
                self._node = manifest

    def behaviour(self, family: int, mode: str = "nftables") -> Behaviour:
        """Everything the node must do in one family in one proxy mode."""
        self._slices = self._slices_by_service(f"IPv{family}")
        self._mode, self._size = mode, 4 if family == 4 else 16
        destinations: dict = {}
        nodeports: dict = {}
        cluster_ips = set()
        for name in sorted(self._objects["services"]):
            service = self._objects["services"][name]
            cluster_ip = _cluster_ip(service, self._size)
            if cluster_ip is None:
                continue
            cluster_ips.add(cluster_ip)
            ports = service["spec"].get("ports") or ()
            for port in sorted(ports, key=lambda p: (p.get("name") or "", PROTOCOLS[p.get("protocol") or "TCP"])):
                self._port(name, service, port, cluster_ip, destinations, nodeports)
        taking = self._taking_node_ports()
        if mode == "iptables":  # no rule is about a whole address
            cluster_ips.clear()
        if mode in HOLDING_ADDRESSES:  # one virtual server or socket for each, and every other address is local
            taking, nodeports = (taking, nodeports) if taking and nodeports else (frozenset(), {})
            cluster_ips |= {key[0] for key in destinations}.difference(self._local_addresses())
        return Behaviour(destinations, nodeports, frozenset(cluster_ips), taking)

    def _slices_by_service(self, address_type: str) -> dict[tuple[str, str], list[dict]]:
        grouped: dict[tuple[str, str], list[dict]] = {}
        for (namespace, _), manifest in sorted(self._objects["endpointslices"].items(), key=lambda item: item[0]):
            labels = manifest["metadata"].get("labels") or {}
            service = labels.get("kubernetes.io/service-name")
            if service and manifest.get("addressType") == address_type and not any(i in labels for i in IGNORED):
                grouped.setdefault((namespace, service), []).append(manifest)
        return grouped

    def _taking_node_ports(self) -> frozenset[bytes] | None:
        """Addresses that take node ports (NP-01 to NP-03, NP-06)."""
        asked = self.settings.node_port_addresses or (("primary",) if self._mode == "nftables" else ())
        if tuple(asked) == ("primary",):
            return frozenset(a for a in self.node_ips(self._size) if not ipaddress.ip_address(a).is_loopback)
        loopback = self._mode == "iptables" and self._size == 4 and self.settings.localhost
        blocks = [b for b in map(block, asked) if len(b.network_address.packed) == self._size]
        if not blocks or any(b.prefixlen == 0 for b in blocks):
            if self._mode not in HOLDING_ADDRESSES:
                return None
            blocks = [block("0.0.0.0/0"), block("::/0")]
        local = [*self._local_addresses(), packed("127.0.0.1")] if loopback else self._local_addresses()
        mine = {a for a in local if any(ipaddress.ip_address(a) in b for b in blocks)}
        if self._mode in HOLDING_ADDRESSES:  # NP-07
            mine = {a for a in mine if not (self._size == 16 and ipaddress.ip_address(a).is_link_local)}
        return frozenset(a for a in mine if loopback or not ipaddress.ip_address(a).is_loopback)

    def node_ips(self, size: int) -> list[bytes]:
        """The node's IP of a family: the first internal one, else the first external one (CFG-20)."""
        if self.settings.node_ips:
            listed = [packed(text) for text in self.settings.node_ips]
        else:
            listed = self._listed("InternalIP") + self._listed("ExternalIP")
        return [a for a in listed if len(a) == size][:1]

    def _local_addresses(self) -> list[bytes]:
        texts = self.settings.local_addresses or self.settings.node_ips
        listed = [packed(text) for text in texts] if texts else self._listed("InternalIP")
        return [a for a in listed if len(a) == self._size]

    def _listed(self, kind: str) -> list[bytes]:
        listed = (self._node.get("status") or {}).get("addresses") or ()
        return [packed(a["address"]) for a in listed if a["type"] == kind]

    def _zone(self) -> str:
        if ("", self._node_name) not in self._objects["nodes"]:
            return ""
        return (self._node["metadata"].get("labels") or {}).get("topology.kubernetes.io/zone", "")

    def _endpoints(self, name, port: dict, size: int) -> dict[tuple[bytes, int], dict]:
        wanted = (port.get("name") or "", port.get("protocol") or "TCP")
        if self._mode == "userspace" and wanted[1] == "SCTP":
            return {}
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

    def _port(self, name, service, port, cluster_ip, destinations, nodeports) -> None:
        spec, size = service["spec"], self._size
        number, protocol = port["port"], PROTOCOLS[port.get("protocol") or "TCP"]
        balancers = [ip for ip in self._balancer_ips(service) if len(ip) == size]
        plain = [ip for ip in _external_ips(spec) if len(ip) == size]
        rules = self._rules(name, service, port, bool(port.get("nodePort") or balancers or plain))
        destinations.setdefault((cluster_ip, protocol, number), rules.internal())
        allowed = self._allowed(spec, balancers)
        for ip in plain:
            destinations.setdefault((ip, protocol, number), rules.external_address())
        for ip in balancers:
            key = (ip, protocol, number)
            if self._mode == "iptables":  # who comes first is asked for source ranges, or nobody is
                destinations.setdefault(key, rules.external_address(allowed))
            else:
                destinations[key] = _unless_taken(destinations, key, rules, allowed)
        if port.get("nodePort"):
            nodeports.setdefault((protocol, port["nodePort"]), rules.external())

    def _rules(self, name, service: dict, port: dict, accessible: bool) -> Port:
        spec, settings = service["spec"], self.settings
        endpoints = self._endpoints(name, port, self._size)
        rules = Port(
            self._mode,
            settings.tells_pods(self._size),
            settings.masquerade_all,
            cluster_set(endpoints, self._hints(service)),
            local_set(endpoints, self._node_name),
            any(usable(e) for e in endpoints.values()),
        )
        rules.internal_local = spec.get("internalTrafficPolicy") == "Local"
        rules.external_local = _external_local(spec)
        rules.silent = self._mode == "userspace" and port.get("protocol") == "UDP"
        rules.uses_cluster = accessible or not rules.internal_local
        if spec.get("sessionAffinity") == "ClientIP":
            client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
            rules.affinity_seconds = client.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS
        return rules

    def on_node(self, family: int, protocol: int) -> set[tuple[bytes, int]]:
        """This node's endpoints of that protocol, ready or not (HAIR-02)."""
        self._slices = self._slices_by_service(f"IPv{family}")
        size = 4 if family == 4 else 16
        found = set()
        for name, service in self._objects["services"].items():
            for port in service["spec"].get("ports") or () if _cluster_ip(service, size) else ():
                if PROTOCOLS[port.get("protocol") or "TCP"] == protocol:
                    ends = self._endpoints(name, port, size)
                    found |= {target for target, e in ends.items() if e.get("nodeName") == self._node_name}
        return found

    def _hints(self, service: dict) -> Hints:
        """The node and zone whose hints count (TOPO-01 to TOPO-05)."""
        settings = self.settings
        annotations = service["metadata"].get("annotations") or {}
        asked = next((annotations[key] for key in TOPOLOGY_MODES if key in annotations), "")
        unasked = not settings.gate("ServiceTrafficDistribution") and asked in ("", "disabled", "Disabled")
        if unasked or not settings.gate("TopologyAwareHints"):
            return Hints("", "")
        by_node = settings.gate("PreferSameTrafficDistribution")
        return Hints((self._node_name or "") if by_node else "", self._zone())

    def _balancer_ips(self, service: dict) -> list[bytes]:
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        bypass = self.settings.gate("LoadBalancerIPMode")
        return [packed(i["ip"]) for i in ingress if i.get("ip") and not (bypass and i.get("ipMode") == "Proxy")]

    def _allowed(self, spec: dict, balancers: list[bytes]):
        networks = [block(text) for text in spec.get("loadBalancerSourceRanges") or ()]
        networks = [n for n in networks if len(n.network_address.packed) == self._size]
        if not networks:
            return None
        mine = self.node_ips(self._size)
        if mine and any(ipaddress.ip_address(mine[0]) in n for n in networks):
            networks += [ipaddress.ip_network(ip) for ip in balancers]
        kept = [n for n in set(networks) if not any(n != other and n.subnet_of(other) for other in networks)]
        return frozenset((n.network_address.packed, n.broadcast_address.packed) for n in kept)


def _unless_taken(destinations: dict, key: tuple, rules: Port, allowed) -> Destination:
    """An address that is taken keeps its outcome, and is restricted all the same."""
    taken = destinations.get(key)
    if taken is None:
        return rules.external(allowed)
    return taken if allowed is None else taken._replace(allowed=allowed | (taken.allowed or frozenset()))


def _external_ips(spec: dict) -> list[bytes]:
    found = []
    for text in spec.get("externalIPs") or ():
        try:
            found.append(packed(text))
        except ValueError:
            continue  # blank or no address: skipped, SVC-05
    return found


def _cluster_ip(service: dict, size: int) -> bytes | None:
    spec, labels = service["spec"], service["metadata"].get("labels") or {}
    headless = spec.get("clusterIP", "") in ("", "None") or spec.get("type") == "ExternalName"
    if headless or any(label in labels for label in IGNORED):
        return None
    families = spec.get("ipFamilies") or ()
    wanted = f"IPv{4 if size == 4 else 6}"
    if wanted in families:
        place = families.index(wanted)
        listed = (spec.get("clusterIPs") or [spec["clusterIP"]])[place : place + 1]
    else:
        listed = [] if families else [spec["clusterIP"]]
    return next((ip for ip in map(packed, listed) if len(ip) == size), None)


def _external_local(spec: dict) -> bool:
    reachable = spec.get("type") in ("NodePort", "LoadBalancer") or spec.get("externalIPs")
    return bool(reachable) and spec.get("externalTrafficPolicy") == "Local"
