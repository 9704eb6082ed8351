"""Draws the type, ports and policies of a new Service, in a real cluster's proportions.

A rich recording draws everything but the most basic values more often.

Weights are integers and draws avoid logarithms: libm's last digit may differ between machines.
"""

from __future__ import annotations

import random

from harness.log.events import JsonObject
from harness.log.synth.addresses import ClusterIPs, Counter, NodePorts

TYPES = (("ClusterIP", 88), ("NodePort", 4), ("LoadBalancer", 3), ("Headless", 4), ("ExternalName", 1))
RICH_TYPES = (("ClusterIP", 54), ("NodePort", 16), ("LoadBalancer", 18), ("Headless", 7), ("ExternalName", 5))
TAIL = (
    (0, 0, 30), (1, 1, 120), (2, 2, 155), (3, 3, 195), (4, 5, 235),
    (6, 10, 185), (11, 20, 60), (21, 60, 16), (61, 250, 4),
)  # fmt: skip
"""(minimum, maximum, weight) of the number of endpoints of a Service."""

SINGLE = (("http", 80, 8080), ("grpc", 9090, 9090), ("https", 443, 8443), ("tcp", 5432, 5432), ("", 80, 8080))
EXTRA = (("metrics", 9100), ("admin", 8081), ("grpc", 50051), ("debug", 6060))


def long_tail(rng: random.Random) -> int:
    """Endpoints of one Service: 0 for 3%, median 4, 250 at most."""
    low, high, _ = rng.choices(TAIL, weights=[weight for *_, weight in TAIL])[0]
    return rng.randint(low, high)


class Shapes:
    """Draws Service specs, taking addresses and node ports from the allocators it owns."""

    def __init__(self, rng: random.Random, dual_stack: bool, rich: bool = False) -> None:
        """Allocators are shuffled with `rng`, so they belong to the seed."""
        self._rng = rng
        self._dual = dual_stack
        self._rich = rich
        self.cluster_ips = ClusterIPs(rng)
        self.node_ports = NodePorts(rng)
        self.counter = Counter()

    def draw(self, name: str) -> tuple[JsonObject, JsonObject, list[tuple[str, int, str]]]:
        """(spec, status, target ports as (name, port, protocol)) of a new Service called `name`."""
        types = RICH_TYPES if self._rich else TYPES
        kind = self._rng.choices([kind for kind, _ in types], weights=[weight for _, weight in types])[0]
        status: JsonObject = {"loadBalancer": {}}
        if kind == "ExternalName":
            spec = {"type": kind, "externalName": f"{name}.example.com", "sessionAffinity": "None"}
            return spec, status, []
        ports, targets = self._ports()
        spec = self._base(name, ports, headless=kind == "Headless")
        if kind == "NodePort" and len(self.node_ports) >= len(ports):
            self._node_port(spec)
        elif kind == "LoadBalancer":
            self._load_balancer(spec, status)
        if kind != "Headless":
            self._policies(spec)
        return spec, status, targets

    def _ports(self) -> tuple[list[JsonObject], list[tuple[str, int, str]]]:
        """(spec ports, target ports): one port for most, 2 or 3 for 12%, DNS on UDP and TCP for 2%."""
        rng, dice = self._rng, self._rng.randrange(100)
        if self._rich and dice >= 80:
            dice %= 3  # UDP for a fifth more
        if dice < 2:
            listed = [("dns", 53, 5353, "UDP"), ("dns-tcp", 53, 5353, "TCP")]
        elif dice < 3:
            listed = [("syslog", 514, 5514, "UDP")]
        elif dice < 13:
            extras = rng.sample(EXTRA, rng.randint(1, 2))
            listed = [("http", 80, 8080, "TCP"), *((name, port, port, "TCP") for name, port in extras)]
        else:
            listed = [(*rng.choice(SINGLE), "TCP")]
        ports = [{"name": n, "protocol": k, "port": p, "targetPort": t} for n, p, t, k in listed]
        if not listed[0][0]:
            del ports[0]["name"]  # the API leaves out an empty name here, but sends it in slices
        return ports, [(n, t, k) for n, _, t, k in listed]

    def _base(self, name: str, ports: list[JsonObject], headless: bool) -> JsonObject:
        """The spec every type starts from: ClusterIP, or headless."""
        ips = ["None"]
        dual = self._dual and (not self._rich or self._one_in(3))
        if not headless:
            ips = self.cluster_ips.text(self.cluster_ips.take(), dual)
        return {
            "type": "ClusterIP",
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "ipFamilies": ["IPv4", "IPv6"] if dual else ["IPv4"],
            "ipFamilyPolicy": "RequireDualStack" if dual else "SingleStack",
            "ports": ports,
            "selector": {"app": name},
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
        }

    def _node_port(self, spec: JsonObject) -> None:
        """Make it a NodePort Service; the caller has checked that ports are left."""
        spec["type"] = "NodePort"
        spec["externalTrafficPolicy"] = "Local" if self._rng.randrange(5) == 0 else "Cluster"
        for port in spec["ports"]:
            port["nodePort"] = self.node_ports.take()

    def _load_balancer(self, spec: JsonObject, status: JsonObject) -> None:
        """Make it a LoadBalancer; without node ports once the range runs low."""
        spec["type"] = "LoadBalancer"
        spec["externalTrafficPolicy"] = "Cluster"
        spec["allocateLoadBalancerNodePorts"] = len(self.node_ports) > len(spec["ports"])
        if spec["allocateLoadBalancerNodePorts"]:
            for port in spec["ports"]:
                port["nodePort"] = self.node_ports.take()
            if self._rng.randrange(3) == 0:
                spec["externalTrafficPolicy"] = "Local"
                spec["healthCheckNodePort"] = self.node_ports.take()
        if self._rng.randrange(3) == 0:
            spec["loadBalancerSourceRanges"] = [f"203.0.113.{self._rng.randrange(0, 256, 16)}/28"]
        status["loadBalancer"] = {"ingress": [{"ip": self.counter.external_ip(), "ipMode": "VIP"}]}
        if self._rich and self._one_in(2):
            second = {"ip": self.counter.external_ip(), "ipMode": self._rng.choice(("VIP", "Proxy"))}
            status["loadBalancer"]["ingress"].append(second)

    def _policies(self, spec: JsonObject) -> None:
        """Affinity for 2%, internal traffic kept local for 2%, external IPs for 1%; all of it more often if rich."""
        if self._rich:
            self._rich_policies(spec)
        if self._rng.randrange(100) < 2:
            spec["sessionAffinity"] = "ClientIP"
            timeout = self._rng.choice((600, 3600, 10800))
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": timeout}}
        if self._rng.randrange(100) < 2:
            spec["internalTrafficPolicy"] = "Local"
        if self._rng.randrange(100) < 1:
            spec["externalIPs"] = [self.counter.external_ip()]
            spec.setdefault("externalTrafficPolicy", "Cluster")

    def _rich_policies(self, spec: JsonObject) -> None:
        """Affinity, local internal traffic, two external IPs, hints: each for one in eight, or four."""
        if self._one_in(8):
            spec["sessionAffinity"] = "ClientIP"
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": self._rng.choice((60, 600, 10800))}}
        if self._one_in(8):
            spec["internalTrafficPolicy"] = "Local"
        if self._one_in(8):
            spec["externalIPs"] = [self.counter.external_ip(), self.counter.external_ip()]
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if self._one_in(4):
            spec["trafficDistribution"] = self._rng.choice(("PreferSameZone", "PreferSameNode"))

    def _one_in(self, many: int) -> bool:
        return self._rng.randrange(many) == 0
