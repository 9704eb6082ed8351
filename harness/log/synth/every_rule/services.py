"""The initial state: every kind of Service, policy, address, condition and hint."""

from __future__ import annotations

from typing import Any

from harness.kube.resources import HOSTNAME, SERVICE_NAME, ZONE, Manifest
from harness.log.synth.every_rule.cluster import ZONES, Cluster, Pod, node_addresses

HTTP = "http 80 8080"
RANGES = ["203.0.113.0/28", "198.51.100.64/26", "2001:db8:1::/64"]
"""Allowed sources; this node is in none of them."""
CROWD = 300
"""Endpoints of the largest Service."""
MORE_THAN_A_BLOCK = 17
"""Ports with the same affinity timeout: in mode nftables 16 share a block of numbers."""
NODE_RANGES = ["192.168.0.0/16", "fd00:192:168::/48"]
"""Allowed sources that include the nodes."""


def populate(cluster: Cluster) -> None:
    """Add Nodes, Services and slices; rules are to be computed for node-a."""
    _nodes(cluster)
    _internal(cluster)
    _ports(cluster)
    _node_ports(cluster)
    _balancers(cluster)
    _external(cluster)
    _sticky(cluster)
    _conditions(cluster)
    _hints(cluster)
    _slices(cluster)


def vip(*addresses: str, mode: str = "VIP") -> list[Manifest]:
    """Entries of a load balancer's status."""
    return [{"ip": address, "ipMode": mode} for address in addresses]


def balancer(number: int) -> tuple[str, str]:
    """Load balancer addresses, one per family."""
    return f"198.18.0.{number}", f"fd00:198:18::{number:x}"


def external(number: int) -> tuple[str, ...]:
    """External addresses, two per family."""
    return (
        f"198.19.0.{number}",
        f"198.19.1.{number}",
        f"fd00:198:19::{number:x}",
        f"fd00:198:19:1::{number:x}",
    )


def client_ip(seconds: int) -> dict[str, Any]:
    """Fields of a spec with session affinity."""
    return {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}


def _nodes(cluster: Cluster) -> None:
    for number, (letter, zone) in enumerate(ZONES.items(), 1):
        name, addresses = f"node-{letter}", node_addresses(letter)
        first, second = zip(*addresses.values(), strict=True)
        listed = [{"type": "InternalIP", "address": address} for address in (*first, *second)]
        listed += [
            {"type": "ExternalIP", "address": f"203.0.113.{100 + number}"},
            {"type": "Hostname", "address": name},
        ]
        cidrs = [f"10.128.{number}.0/24", f"fd00:10:128:{number}::/64"]
        labels = {HOSTNAME: name, ZONE: zone}
        conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]
        body = {
            "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
            "status": {"addresses": listed, "conditions": conditions},
        }
        cluster.create("nodes", name, body, labels)


def _internal(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    service("plain", HTTP, [pods("abc")])
    service("single", HTTP, [pods("a")])
    service("only-four", HTTP, [pods("bc")], families=(4,))
    service("only-six", HTTP, [pods("ad")], families=(6,))
    service("six-first", HTTP, [pods("ac")], families=(6, 4))
    service("headless", HTTP, [pods("ab")], clusterIP="None", clusterIPs=["None"])
    cluster.create(
        "services",
        "elsewhere",
        {"spec": {"type": "ExternalName", "externalName": "shop.example.com", "sessionAffinity": "None"}},
        {"app": "elsewhere"},
    )
    service("of-another-proxy", HTTP, [pods("a")], labels={"service.kubernetes.io/service-proxy-name": "other"})
    service("api", "https 443 6443", [[*cluster.pods("")]])
    cluster.slices["api", "a"].pods = _host_network(cluster)
    cluster.write("api")
    service("itp-local", HTTP, [pods("aabc")], internalTrafficPolicy="Local")
    service("itp-local-elsewhere", HTTP, [pods("bc")], internalTrafficPolicy="Local")
    service("itp-local-empty", HTTP, [[]], internalTrafficPolicy="Local")
    service("empty", HTTP, [[]])
    service("no-slice", HTTP, [])


def _host_network(cluster: Cluster) -> list[Pod]:
    made = cluster.pods("bc")
    for pod in made:
        pod.host = 0
    return made


def _ports(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    service("two-ports", "http 80 web=8080,metrics 9100 9100", [pods("ab")])
    service("named-target", "http 80 web=8080", [pods("a"), []])
    # A port name may have different numbers in different pods: one slice for each number.
    piece = cluster.slices["named-target", "b"]
    piece.pods, piece.ports = pods("bc"), [type(piece.ports[0]).of("http 80 web=8081")]
    cluster.write("named-target", "b")
    service("clock", "ntp 123 1123 UDP", [pods("bc")])
    service("dns", "dns 53 5353 UDP,dns-tcp 53 5353", [pods("abd")])
    service("syslog", "- 514 5514 UDP", [pods("bc")])
    service("signal", "sctp 9999 9999 SCTP", [pods("ac")])
    service("unnamed", "- 8443 8443", [pods("ab")])
    service("of-old-times", HTTP, [pods("ab")], families=(4,))
    cluster.edit("of-old-times", clusterIPs=None, ipFamilies=None, ipFamilyPolicy=None)
    service("misnamed", "http 80 8080", [pods("ab")])
    cluster.slices["misnamed", "a"].ports[0].name = "web"
    cluster.write("misnamed")


def _node_ports(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    service("node-port", "http 80 8080,dns 53 5353 UDP,sctp 99 9999 SCTP", [pods("abc")], type="NodePort")
    service("node-port-shared", "http 80 8080,quic 443 8443 UDP", [pods("ab")], type="NodePort")
    listed = cluster.spec("node-port-shared")["ports"]
    cluster.edit("node-port-shared", ports=[listed[0], {**listed[1], "nodePort": listed[0]["nodePort"]}])
    service("node-port-empty", HTTP, [[]], type="NodePort")
    local: dict[str, Any] = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    service("node-port-local", "http 80 8080,dns 53 5353 UDP", [pods("aabc")], **local)
    service("node-port-elsewhere", "http 80 8080,dns 53 5353 UDP", [pods("bc")], **local)
    service("node-port-itp", HTTP, [pods("ab")], type="NodePort", internalTrafficPolicy="Local")


def _balancers(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    lb: dict[str, Any] = {"type": "LoadBalancer"}
    service("lb", "https 443 8443,dns 53 5353 UDP", [pods("abc")], ingress=vip(*balancer(1)), **lb)
    ranges: dict[str, Any] = {"loadBalancerSourceRanges": RANGES}
    service("lb-ranges", HTTP, [pods("ab")], ingress=vip(*balancer(2)), **ranges, **lb)
    nodes: dict[str, Any] = {"loadBalancerSourceRanges": NODE_RANGES}
    service("lb-node-ranges", HTTP, [pods("bc")], ingress=vip(*balancer(3)), **nodes, **lb)
    four: dict[str, Any] = {"loadBalancerSourceRanges": RANGES[:1]}
    service("lb-ranges-of-four", HTTP, [pods("ac")], ingress=vip(*balancer(4)), **four, **lb)
    service("lb-ranges-empty", HTTP, [[]], ingress=vip(*balancer(5)), **ranges, **lb)
    local: dict[str, Any] = lb | {"externalTrafficPolicy": "Local"}
    service("lb-local", "http 80 8080,dns 53 5353 UDP", [pods("aab")], ingress=vip(*balancer(6)), **local)
    service("lb-local-elsewhere", HTTP, [pods("bd")], ingress=vip(*balancer(7)), **local)
    service("lb-local-ranges", HTTP, [pods("ac")], ingress=vip(*balancer(8)), **ranges, **local)
    service("lb-proxy", HTTP, [pods("ab")], ingress=vip(*balancer(9), mode="Proxy"), **lb)
    both = [*vip(*balancer(10)), *vip(*balancer(11), mode="Proxy"), {"hostname": "lb.example.com"}]
    service("lb-several", HTTP, [pods("ac")], ingress=[*both, {"ip": balancer(12)[0]}], **lb)
    service("lb-portless", HTTP, [pods("ab")], ingress=vip(*balancer(13)), allocateLoadBalancerNodePorts=False, **lb)
    service("lb-pending", HTTP, [pods("a")], **lb)
    service("lb-shared", "alt 8080 8080", [pods("bd")], ingress=vip(*balancer(2)), **lb)


def _external(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    service("external", "http 80 8080,dns 53 5353 UDP", [pods("abc")], externalIPs=external(1))
    local: dict[str, Any] = {"externalTrafficPolicy": "Local"}
    service("external-local", HTTP, [pods("ab")], externalIPs=external(2), **local)
    service("external-elsewhere", HTTP, [pods("cd")], externalIPs=external(3), **local)
    service("external-empty", HTTP, [[]], externalIPs=external(4))
    service("external-shared", "alt 8080 8080", [pods("ad")], externalIPs=external(1))
    service("external-rival", HTTP, [pods("bc")], externalIPs=external(2)[::2])


def _sticky(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    service("sticky", HTTP, [pods("abcd")], **client_ip(10800))
    service("sticky-minute", "http 80 8080,dns 53 5353 UDP", [pods("abc")], type="NodePort", **client_ip(60))
    service("sticky-default", HTTP, [pods("bcd")], sessionAffinity="ClientIP")
    many = ",".join(f"p{number} {8000 + number} 8080" for number in range(MORE_THAN_A_BLOCK))
    service("sticky-ports", many, [pods("ab")], families=(4,), **client_ip(10800))
    local: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    service("sticky-local", HTTP, [pods("aabb")], ingress=vip(*balancer(14)), **client_ip(300), **local)


def _conditions(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    dead: dict[str, Any] = {"ready": False, "serving": False}
    draining: dict[str, Any] = {"ready": False, "terminating": True}
    gone: dict[str, Any] = {**dead, "terminating": True}
    service("unready", HTTP, [pods("ab", **dead)])
    service("some-unready", HTTP, [pods("ab") + pods("ac", **dead)])
    service("draining", HTTP, [pods("ab", **draining) + pods("c", **gone) + pods("d", **dead)])
    service("some-draining", HTTP, [pods("ab") + pods("c", **draining)])
    here = pods("a", **draining) + pods("a", **gone) + pods("bc")
    service("draining-here", HTTP, [here], type="NodePort", externalTrafficPolicy="Local")
    service("draining-elsewhere", HTTP, [pods("b", **draining)], type="NodePort", externalTrafficPolicy="Local")
    vague = [cluster.vague("a", None), cluster.vague("b", {}), cluster.vague("c", {"ready": True})]
    terminating = [cluster.vague("d", {"ready": False, "terminating": True}), cluster.vague("a", {"ready": False})]
    service("nil-conditions", HTTP, [vague + terminating])
    # The only endpoint: it serves, as no condition states otherwise.
    service("nil-serving", HTTP, [[cluster.vague("b", {"ready": False, "terminating": True})]])
    # Neither ready nor terminating, and nothing states whether it serves.
    service("unready-alone", HTTP, [[cluster.vague("b", {"ready": False})]])
    service("itp-local-draining", HTTP, [pods("bc", **draining)], internalTrafficPolicy="Local")
    starting = pods("ab", ready=True, serving=False)
    service("publish-not-ready", HTTP, [starting], publishNotReadyAddresses=True)


def _hints(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    by_zone: dict[str, Any] = {"trafficDistribution": "PreferSameZone"}
    service("zones", HTTP, [pods("ab", "zone-1") + pods("c", "zone-2")], **by_zone)
    service("zones-several", HTTP, [pods("c", "zone-2 zone-1") + pods("d", "zone-3")], **by_zone)
    service("zones-partial", HTTP, [pods("a", "zone-1") + pods("cd")], **by_zone)
    service("zones-elsewhere", HTTP, [pods("c", "zone-2") + pods("d", "zone-3")], **by_zone)
    unready = pods("b", "zone-1", ready=False, serving=False)
    service("zones-unready", HTTP, [pods("c", "zone-2") + unready], **by_zone)
    bare = pods("d", ready=False, serving=False)
    service("zones-unready-bare", HTTP, [pods("b", "zone-1") + pods("c", "zone-2") + bare], **by_zone)
    by_node: dict[str, Any] = {"trafficDistribution": "PreferSameNode"}
    service("nodes", HTTP, [pods("a", "zone-1", "a") + pods("b", "zone-1", "b")], **by_node)
    service("nodes-elsewhere", HTTP, [pods("b", "zone-1", "b") + pods("c", "zone-2", "c")], **by_node)
    local: dict[str, Any] = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    service("zones-local", HTTP, [pods("a", "zone-3") + pods("a", "zone-1") + pods("b", "zone-1")], **by_zone, **local)


def _slices(cluster: Cluster) -> None:
    service, pods = cluster.service, cluster.pods
    twice = pods("abc")
    service("many-slices", "http 80 8080,dns 53 5353 UDP", [pods("ab"), twice, [twice[0], *pods("d")]])
    service("wide", HTTP, [pods("abcdabcdabcd"), pods("bcdbcd")], families=(4,))
    _crowd(cluster)
    body: Manifest = {
        "addressType": "FQDN",
        "endpoints": [{"addresses": ["pod.example.com"], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }
    cluster.create("endpointslices", "plain-names", body, {SERVICE_NAME: "plain"})
    cluster.create("endpointslices", "nobodys", body | {"addressType": "IPv4", "endpoints": None, "ports": None}, {})


def _crowd(cluster: Cluster) -> None:
    """A slice made by hand: hundreds of endpoints without nodes and conditions."""
    cluster.service("crowd", HTTP, [], families=(4,))
    addresses = (f"10.129.{number // 250}.{number % 250 + 1}" for number in range(CROWD))
    body: Manifest = {
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }
    cluster.create("endpointslices", "crowd-1", body, {SERVICE_NAME: "crowd"})
