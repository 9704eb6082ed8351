"""The fold of the events, and the table of destinations computed from it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from harness.judge.behaviour import PROTOCOLS, Behaviour, Target
from harness.judge.oracle import ipsets
from harness.judge.oracle.derived import Derived
from harness.judge.oracle.frontends import OraclePort, Ranges
from harness.judge.oracle.merged import Claim, Merged, Name, Part
from harness.judge.oracle.modes import TRAITS
from harness.judge.oracle.rules import Hints, cluster_set, local_set, usable
from harness.judge.oracle.settings import Settings, block, packed
from harness.log.events import OBJECT_TYPES, Event, JsonObject

PROXY_NAME, HEADLESS = "service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"
TOPOLOGY_MODES = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
DEFAULT_AFFINITY_SECONDS = 10800


class Oracle:
    """Cluster state as plain manifests, for one node: the first one observed unless one is given."""

    def __init__(self, node_name: str | None, settings: Settings | None = None) -> None:
        self._node_name = node_name
        self._settings = settings or Settings()
        self._objects: dict[str, dict[tuple[str, str], JsonObject]] = {
            "services": {},
            "endpointslices": {},
            "nodes": {},
        }
        self._node: JsonObject = {}
        self._mode, self._traits = "nftables", TRAITS["nftables"]
        self._slices: dict[tuple[str, Name], dict[str, JsonObject]] = {}
        self._merged: dict[tuple[int, str], Merged] = {}
        self._changed: dict[tuple[int, str], set[Name]] = {}
        self._derived: dict[tuple[str, str], Any] = {}
        self._news: dict[tuple[str, str], dict[Name, None]] = {}

    @property
    def settings(self) -> Settings:
        """The proxy's configuration; with another one everything is computed again."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = settings
        self.forget()

    def observe(self, event: Event) -> None:
        """Fold one event; markers and other resources are ignored."""
        if event.type not in OBJECT_TYPES or event.resource not in self._objects:
            return
        manifest = msgspec.json.decode(event.object)
        meta = manifest["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        objects, after = self._objects[event.resource], None
        before = objects.get(key)
        if event.type == "DELETED":  # only the name matters; a deleted node keeps its addresses
            objects.pop(key, None)
        else:
            objects[key] = after = manifest
        for (resource, _), news in self._news.items():
            if resource == event.resource:
                news[key] = None
        if event.resource == "endpointslices":
            self._file(key, before, after)
        elif event.resource == "services":
            self._note_change(key)
        else:
            self._node_seen(meta["name"], after)

    def forget(self) -> None:
        """Compute all behaviour from scratch next time, like an oracle that receives all events at once."""
        self._merged.clear()
        self._changed.clear()

    def _note_change(self, service: Name) -> None:
        for changed in self._changed.values():
            changed.add(service)

    def _file(self, key: Name, before: JsonObject | None, after: JsonObject | None) -> None:
        """Keep slices by family and Service."""
        for manifest in (before, after):
            labels = (manifest or {"metadata": {}})["metadata"].get("labels") or {}
            service = labels.get("kubernetes.io/service-name")
            if manifest and service:
                place = manifest.get("addressType", ""), (key[0], service)
                pieces = self._slices.setdefault(place, {})
                pieces.pop(key[1], None)
                if manifest is after:
                    pieces[key[1]] = manifest
                if not pieces:
                    del self._slices[place]
                self._note_change(place[1])

    def _node_seen(self, name: str, manifest: JsonObject | None) -> None:
        """All of the behaviour may depend on this node's addresses, zone and labels."""
        if manifest:
            self._node_name = self._node_name or name
        if name == self._node_name:
            self._node = manifest or self._node
            self.forget()

    @property
    def node_name(self) -> str | None:
        """The node whose rules are computed."""
        return self._node_name

    def manifests(self, resource: str) -> Iterable[JsonObject]:
        """All current objects of a resource."""
        return self._objects[resource].values()

    def derived(self, resource: str, what: str, make: Callable[[], Derived]) -> Derived:
        """The value that `make` returned at first use, updated with every object changed since."""
        place = resource, what
        if place not in self._derived:
            self._derived[place], self._news[place] = make(), dict.fromkeys(self._objects[resource])
        kept: Derived = self._derived[place]
        for key in self._news[place]:
            kept.replace(key, self._objects[resource].get(key))
        self._news[place].clear()
        return kept

    def behaviour(self, family: int, mode: str = "nftables") -> Behaviour:
        """The expected behaviour of the node for one family and proxy mode."""
        merged = self._up_to_date(family, mode)
        taking = self._taking_node_ports()
        nodeports = dict(merged.nodeports.settled)
        destinations, cluster_ips = dict(merged.destinations.settled), set(merged.cluster_ips)
        traits = self._traits
        if not traits.refuses_other_ports:  # no rule matches a whole address
            cluster_ips.clear()
        if traits.holds_addresses:  # one virtual server or socket per node address; all other addresses are local
            taking, nodeports = (taking, nodeports) if taking and nodeports else (frozenset(), {})
            cluster_ips |= {key[0] for key in destinations}.difference(self._local_addresses())
        return Behaviour(
            destinations,
            nodeports,
            frozenset(cluster_ips),
            taking,
            frozenset(merged.health_check_ports) if traits.accepts_health_checks else frozenset(),
            merged.chains if traits.chains else None,
            merged.all_sets(cluster_ips) if traits.sets else None,
            frozenset(merged.own_endpoints) if traits.own_endpoints else None,
            merged.overshadowed,
        )

    def _up_to_date(self, family: int, mode: str) -> Merged:
        """The contributions of all Services; those of changed ones are computed again."""
        self._mode, self._traits, self._size = mode, TRAITS[mode], 4 if family == 4 else 16
        place = family, mode
        if place not in self._merged:
            self._merged[place], self._changed[place] = Merged(), set(self._objects["services"])
        taking = self._taking_node_ports()
        for name in self._changed[place]:
            service = self._objects["services"].get(name)
            self._merged[place].replace(name, self._part(name, service, taking) if service else None)
        self._changed[place].clear()
        return self._merged[place]

    def _part(self, name: Name, service: JsonObject, taking: frozenset[bytes] | None) -> Part | None:
        """The contribution of one Service; None if it has no cluster IP of the family."""
        cluster_ip = _cluster_ip(service, self._size, self._hiding(PROXY_NAME))
        if cluster_ip is None:
            return None
        part = Part(cluster_ip, _health_check_ports(service["spec"]))
        ports = service["spec"].get("ports") or ()
        for port in sorted(ports, key=lambda p: (p.get("name") or "", PROTOCOLS[p.get("protocol") or "TCP"])):
            self._port(name, service, port, part)
            if self._traits.sets:
                self._entries(service, port, part, taking)
        return part

    def _hiding(self, label: str) -> tuple[str, ...]:
        """Labels that exclude an object from this proxy: since 1.36 each kind has its own (SVC-01a)."""
        return (label,) if self.settings.version >= (1, 36) else (PROXY_NAME, HEADLESS)

    def _taking_node_ports(self) -> frozenset[bytes] | None:
        """Addresses that accept node ports (NP-01 to NP-03, NP-06)."""
        traits, unset = self._traits, self._traits.node_ports_on
        asked = self.settings.node_port_addresses or unset
        blocks = self.settings.node_port_blocks(self._size, self.node_ips(self._size), unset)
        loopback = traits.opens_loopback and self._size == 4 and self.settings.localhost
        if not blocks:
            # Where it is the default, a list with `primary` is always a set of addresses, since it may change.
            if not traits.holds_addresses and not (unset and "primary" in asked):
                return None
            blocks = [block("0.0.0.0/0"), block("::/0")]
        local = [*self._local_addresses(), *self.node_ips(self._size)]
        local += [packed("127.0.0.1")] if loopback else []
        mine = {a for a in local if any(ipaddress.ip_address(a) in b for b in blocks)}
        if traits.holds_addresses:  # NP-07
            mine = {a for a in mine if not (self._size == 16 and ipaddress.ip_address(a).is_link_local)}
        return frozenset(a for a in mine if loopback or not ipaddress.ip_address(a).is_loopback)

    def node_ips(self, size: int) -> list[bytes]:
        """The node IP of a family: the first internal address, else the first external one (CFG-20)."""
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
        zone: str = (self._node["metadata"].get("labels") or {}).get("topology.kubernetes.io/zone", "")
        return zone

    def endpoints(self, name: Name, port: JsonObject, size: int) -> dict[Target, JsonObject]:
        """All listed endpoints of a Service port, with their manifests."""
        wanted = (port.get("name") or "", port.get("protocol") or "TCP")
        if wanted[1] == "SCTP" and not self._traits.sctp:
            return {}
        found: dict[Target, JsonObject] = {}
        pieces = self._slices.get((f"IPv{4 if size == 4 else 6}", name), {})
        hiding = self._hiding(HEADLESS)
        for _, manifest in sorted(pieces.items()) if len(pieces) > 1 else pieces.items():
            if any(label in manifest["metadata"]["labels"] for label in hiding):
                continue
            for slice_port in manifest.get("ports") or ():
                offered = (slice_port.get("name"), slice_port.get("protocol") or "TCP")
                if offered != wanted or not slice_port.get("port"):
                    continue
                for endpoint in manifest.get("endpoints") or ():
                    address = packed(endpoint["addresses"][0]) if endpoint.get("addresses") else b""
                    key = (address, slice_port["port"])
                    if len(address) == size and (key not in found or self._wins(endpoint)):
                        found[key] = endpoint
        return found

    def _wins(self, endpoint: JsonObject) -> bool:
        """Whether an endpoint replaces an earlier one with the same address and port (EPS-05, EPS-05a)."""
        if self.settings.version < (1, 36):
            return self._is_here(endpoint)
        return (endpoint.get("conditions") or {}).get("terminating") is not True

    def _is_here(self, endpoint: JsonObject) -> bool:
        """Not if neither the node nor the endpoint's is known."""
        return self._node_name is not None and endpoint.get("nodeName") == self._node_name

    def _port(self, name: Name, service: JsonObject, port: JsonObject, part: Part) -> None:
        spec = service["spec"]
        number, protocol = port["port"], PROTOCOLS[port.get("protocol") or "TCP"]
        plain, balancers = self._outside(service)
        endpoints = self.endpoints(name, port, self._size)
        rules = self._rules(service, port, endpoints, bool(port.get("nodePort") or balancers or plain))
        part.own_endpoints.update(
            (address, protocol, own) for (address, own), each in endpoints.items() if self._is_here(each)
        )
        yields = self._traits.yields_without_endpoints and not rules.some
        part.claim((part.cluster_ip, protocol, number), rules.internal(), yields=yields)
        allowed = self._allowed(spec, balancers)
        for ip in plain:
            part.claim((ip, protocol, number), rules.external_address(), yields=yields)
        for ip in balancers:
            mine = rules.external_address(allowed)
            part.claim((ip, protocol, number), mine, None if self._traits.first_ranges_only else allowed, yields)
        if port.get("nodePort"):
            part.nodeports.setdefault((protocol, port["nodePort"]), Claim(rules.external()))
        if rules.some and (port.get("nodePort") or balancers or plain):
            part.external.add(_port_name(name, port))
            if allowed is not None and balancers:
                part.firewalls.add(_port_name(name, port))
                part.guarded.update((ip, protocol, number) for ip in balancers)

    def _entries(self, service: JsonObject, port: JsonObject, part: Part, taking: frozenset[bytes] | None) -> None:
        part.sets = part.sets or ipsets.none()
        spec, sets, local = service["spec"], part.sets, _external_local(service["spec"])
        number, protocol = port["port"], PROTOCOLS[port.get("protocol") or "TCP"]
        plain, balancers = self._outside(service)
        sets["CLUSTER-IP"].add(ipsets.ip_port(part.cluster_ip, protocol, number))
        ipsets.add_outside(sets, "EXTERNAL-IP", plain, protocol, number, local)
        ipsets.add_outside(sets, "LOAD-BALANCER", balancers, protocol, number, local)
        allowed = self._allowed(spec, balancers)
        if allowed is not None:
            ipsets.add_ranges(sets, balancers, protocol, number, allowed)
        if port.get("nodePort"):
            ipsets.add_node_port(sets, taking or (), protocol, port["nodePort"], local)

    def _outside(self, service: JsonObject) -> tuple[list[bytes], list[bytes]]:
        """External and load balancer addresses of the family."""
        listed = _external_ips(service["spec"]) if self.settings.gate("AllowServiceExternalIPs") else []
        plain, balancers = (
            [ip for ip in ips if len(ip) == self._size] for ips in (listed, self._balancer_ips(service))
        )
        return plain, balancers

    def _rules(
        self, service: JsonObject, port: JsonObject, endpoints: dict[Target, JsonObject], accessible: bool
    ) -> OraclePort:
        spec, settings = service["spec"], self.settings
        rules = OraclePort(
            self._traits,
            settings.detects_pods(self._size),
            settings.masquerade_all,
            cluster_set(endpoints, self._hints(service)),
            local_set(endpoints, self._node_name),
            any(usable(e) for e in endpoints.values()),
        )
        rules.internal_local = spec.get("internalTrafficPolicy") == "Local"
        rules.external_local = _external_local(spec)
        rules.silent = self._traits.by_sockets and port.get("protocol") == "UDP"
        rules.uses_cluster = accessible or not rules.internal_local
        if spec.get("sessionAffinity") == "ClientIP":
            client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
            rules.affinity_seconds = client.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS
        return rules

    def on_node(self, family: int, protocol: int) -> set[Target]:
        """This node's endpoints of the protocol, ready or not (HAIR-02)."""
        found = self._up_to_date(family, self._mode).own_endpoints
        return {(address, port) for address, kind, port in found if kind == protocol}

    def _hints(self, service: JsonObject) -> Hints:
        """The node and zone whose hints apply (TOPO-01 to TOPO-05)."""
        settings = self.settings
        annotations = service["metadata"].get("annotations") or {}
        asked = next((annotations[key] for key in TOPOLOGY_MODES if key in annotations), "")
        unasked = not settings.gate("ServiceTrafficDistribution") and asked in ("", "disabled", "Disabled")
        if unasked or not settings.gate("TopologyAwareHints"):
            return Hints("", "")
        by_node = settings.gate("PreferSameTrafficDistribution")
        return Hints((self._node_name or "") if by_node else "", self._zone())

    def _balancer_ips(self, service: JsonObject) -> list[bytes]:
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        bypass = self.settings.gate("LoadBalancerIPMode")
        return [packed(i["ip"]) for i in ingress if i.get("ip") and not (bypass and i.get("ipMode") == "Proxy")]

    def _allowed(self, spec: JsonObject, balancers: list[bytes]) -> Ranges | None:
        networks = [block(text) for text in spec.get("loadBalancerSourceRanges") or ()]
        networks = [n for n in networks if len(n.network_address.packed) == self._size]
        if not networks:
            return None
        mine = self.node_ips(self._size)
        if mine and any(ipaddress.ip_address(mine[0]) in n for n in networks):
            networks += [ipaddress.ip_network(ip) for ip in balancers]
        ranges = {(n.network_address.packed, n.broadcast_address.packed) for n in networks}
        return frozenset(r for r in ranges if not any(r != o and o[0] <= r[0] and r[1] <= o[1] for o in ranges))


def _external_ips(spec: JsonObject) -> list[bytes]:
    found = []
    for text in spec.get("externalIPs") or ():
        try:
            found.append(packed(text))
        except ValueError:
            continue  # blank or not an address: skipped, SVC-05
    return found


def _cluster_ip(service: JsonObject, size: int, hiding: tuple[str, ...]) -> bytes | None:
    spec, labels = service["spec"], service["metadata"].get("labels") or {}
    headless = spec.get("clusterIP", "") in ("", "None") or spec.get("type") == "ExternalName"
    if headless or any(label in labels for label in hiding):
        return None
    families = spec.get("ipFamilies") or ()
    wanted = f"IPv{4 if size == 4 else 6}"
    if wanted in families:
        place = families.index(wanted)
        listed = (spec.get("clusterIPs") or [spec["clusterIP"]])[place : place + 1]
    else:
        listed = [] if families else [spec["clusterIP"]]
    return next((ip for ip in map(packed, listed) if len(ip) == size), None)


def _port_name(service: tuple[str, str], port: JsonObject) -> str:
    """The text that the names of a port's chains are derived from (IPT-02)."""
    suffix = f":{port['name']}" if port.get("name") else ""
    return f"{'/'.join(service)}{suffix}{(port.get('protocol') or 'TCP').lower()}"


def _health_check_ports(spec: JsonObject) -> set[int]:
    """Only load balancers with policy Local have them (SVC-09)."""
    number = spec.get("healthCheckNodePort") or 0
    asked = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local" and spec.get("ports")
    return {number} if asked and number else set()


def _external_local(spec: JsonObject) -> bool:
    reachable = spec.get("type") in ("NodePort", "LoadBalancer") or spec.get("externalIPs")
    return bool(reachable) and spec.get("externalTrafficPolicy") == "Local"
