"""Facts of the manifests about one packet's destination, for `differences`.

Works for clusters of `strategies` alone: every Service has addresses and node ports of its own.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOLS
from harness.judge.oracle import Settings
from harness.judge.oracle.packets import client_of
from harness.judge.oracle.rules import local_set, usable
from harness.judge.oracle.settings import block, packed
from harness.judge.packet import Outcome, Packet

from .strategies import LOCAL, NODE_IPS

OUTSIDE = ("external IP", "balancer", "node port")
Target = tuple[bytes, int]


class Look(NamedTuple):
    """One packet and where it goes.

    `kind`: cluster IP, external IP, balancer or node port; "other port" of one of a Service's addresses;
    "" for none.  `ends`: the port's endpoints in any state.  `opened`: asks mode iptables about the same
    cluster, all policies Cluster and no source ranges.
    """

    packet: Packet
    settings: Settings
    kind: str
    service: dict
    ends: dict[Target, dict]
    opened: Callable[[Packet], Outcome]

    @property
    def spec(self) -> dict:
        return self.service["spec"]

    @property
    def size(self) -> int:
        return len(self.packet.source)

    @property
    def client(self) -> int:
        """The column of the packet's source."""
        return client_of(self.packet, self.settings)

    @property
    def some(self) -> bool:
        """Whether any endpoint is usable."""
        return any(map(usable, self.ends.values()))

    @property
    def here(self) -> frozenset[Target]:
        """This node's usable endpoints."""
        return frozenset(local_set(self.ends, "n1"))

    @property
    def on_node(self) -> set[Target]:
        """This node's endpoints in any state."""
        return {target for target, end in self.ends.items() if end["nodeName"] == "n1"}

    @property
    def is_local(self) -> bool:
        """Whether the policy that counts for the address is Local (SVC-08)."""
        if self.kind == "cluster IP":
            return self.spec["internalTrafficPolicy"] == "Local"
        reached = self.spec["type"] != "ClusterIP" or self.spec.get("externalIPs")
        return bool(reached) and self.spec["externalTrafficPolicy"] == "Local"

    @property
    def accessible(self) -> bool:
        """Whether the Service has any address besides the cluster IP (SVC-10)."""
        addresses = [*(self.spec.get("externalIPs") or ()), *balancers(self.service, self.settings)]
        return self.spec["type"] in ("NodePort", "LoadBalancer") or any(len(packed(a)) == self.size for a in addresses)

    @property
    def barred(self) -> bool:
        """Whether the source ranges exclude the source (LB-03)."""
        if self.kind != "balancer":
            return False
        ranges = [block(text) for text in self.spec.get("loadBalancerSourceRanges") or ()]
        ranges = [b for b in ranges if len(b.network_address.packed) == self.size]
        if not ranges:
            return False
        mine = next(ipaddress.ip_address(a) for a in map(packed, NODE_IPS) if len(a) == self.size)
        if any(mine in b for b in ranges):
            ranges += [ipaddress.ip_network(packed(a)) for a in balancers(self.service, self.settings)]
        source = ipaddress.ip_address(self.packet.source)
        return not any(source in b for b in ranges)

    @property
    def at_loopback(self) -> bool:
        return ipaddress.ip_address(self.packet.destination).is_loopback

    def takes_node_ports(self, *default: str) -> bool:
        """Whether the destination is configured to accept node ports; `default` if unset (NP-01 to NP-03)."""
        asked = self.settings.node_port_addresses or default
        address = ipaddress.ip_address(self.packet.destination)
        if asked == ("primary",):
            return self.packet.destination in map(packed, NODE_IPS)
        blocks = [b for b in map(block, asked) if b.version == address.version]
        return not blocks or any(b.prefixlen == 0 or address in b for b in blocks)

    @property
    def in_service_cidrs(self) -> bool:
        known = self.settings.service_cidrs if self.settings.gate("MultiCIDRServiceAllocator") else ()
        address = ipaddress.ip_address(self.packet.destination)
        return any(address in b for b in map(block, known) if b.version == address.version)


def balancers(service: dict, wanted: Settings) -> list[str]:
    """Load balancer addresses that are programmed (SVC-07)."""
    bypass = wanted.gate("LoadBalancerIPMode")
    ingress = service["status"]["loadBalancer"]["ingress"]
    return [entry["ip"] for entry in ingress if not (bypass and entry["ipMode"] == "Proxy")]


def look(events, wanted: Settings, packet: Packet, opened: Callable[[Packet], Outcome]) -> Look:
    """Find the packet's destination among the Services."""
    kind, found, ends = "", {}, {}
    for _, resource, raw in events:
        service = json.loads(raw) if resource == "services" else {"spec": {}}
        for port in service["spec"].get("ports", ()):
            place = _kind(service, port, packet, wanted)
            if place and kind in ("", "other port", "other port of a cluster IP"):
                kind, found, ends = place, service, _ends(events, service, port, len(packet.source))
    return Look(packet, wanted, kind, found, ends, opened)


def _kind(service: dict, port: dict, packet: Packet, wanted: Settings) -> str:
    spec = service["spec"]
    family = "IPv4" if len(packet.source) == 4 else "IPv6"
    if family not in spec["ipFamilies"] or spec["type"] == "ExternalName" or spec["clusterIP"] == "None":
        return ""
    same = PROTOCOLS[port["protocol"]] == packet.protocol
    if same and port["nodePort"] == packet.port and packet.destination in map(packed, LOCAL):
        return "node port"
    places = {
        "cluster IP": spec["clusterIPs"],
        "external IP": spec.get("externalIPs") or (),
        "balancer": balancers(service, wanted),
    }
    for kind, addresses in places.items():
        if packet.destination in map(packed, addresses):
            other = "other port of a cluster IP" if kind == "cluster IP" else "other port"
            return kind if same and port["port"] == packet.port else other
    return ""


def _ends(events, service: dict, port: dict, size: int) -> dict[Target, dict]:
    """A port's endpoints over all slices; of two entries that of this node counts, else the first (EPS-05)."""
    found: dict[Target, dict] = {}
    name = service["metadata"]["name"]
    slices = sorted(
        (piece["metadata"]["name"], piece)
        for piece in (json.loads(raw) for _, resource, raw in events if resource == "endpointslices")
        if piece["metadata"]["labels"]["kubernetes.io/service-name"] == name
    )
    for _, piece in slices:
        for offered in piece["ports"]:
            if (offered["name"], offered["protocol"]) != (port["name"], port["protocol"]):
                continue
            for end in piece["endpoints"]:
                target = packed(end["addresses"][0]), offered["port"]
                running = not end["conditions"].get("terminating")  # wins over what is there, since 1.36
                if len(target[0]) == size and (target not in found or running):
                    found[target] = end
    return found
