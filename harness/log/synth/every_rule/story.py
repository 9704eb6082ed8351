"""The changes of the cluster: each scene is a kind of change, and the last state still has every kind of rule."""

from __future__ import annotations

from harness.log.synth.every_rule.cluster import Cluster, Pod, Port
from harness.log.synth.every_rule.nodes import hints_change, nodes_report
from harness.log.synth.every_rule.services import NODE_RANGES, RANGES, balancer, client_ip, external, vip

HTTP = [Port.of("http 80 8080")]


def endpoints_come_and_go(cluster: Cluster) -> None:
    """Endpoints are added, removed, unready and ready again, drained; the last is removed, the first is added."""
    pods = cluster.slices["plain", "a"].pods
    cluster.wait()
    pods += cluster.pods("d", ready=False, serving=False)
    cluster.write("plain")
    for state in (
        {"ready": True, "serving": True},
        {"ready": False, "serving": False},
        {"ready": True, "serving": True},
    ):
        cluster.wait()
        _conditions(pods[-1], **state)
        cluster.write("plain")
    cluster.wait()
    _conditions(pods[0], ready=False, terminating=True)
    cluster.write("plain")
    cluster.wait()
    del pods[0]
    cluster.write("plain")
    for name in ("single", "only-six", "node-port-itp"):
        piece = cluster.slices[name, "a"]
        had, piece.pods = piece.pods, []
        cluster.wait()
        cluster.write(name)
        piece.pods = had if name != "single" else cluster.pods("a")
        cluster.wait()
        cluster.write(name)
    for name in ("empty", "node-port-empty", "external-empty", "lb-ranges-empty", "itp-local-empty"):
        cluster.slices[name, "a"].pods = cluster.pods("ab")
        cluster.wait()
        cluster.write(name)
    cluster.wait()
    cluster.slices["empty", "a"].pods = []
    cluster.write("empty")
    cluster.slices["external-empty", "a"].pods = []
    cluster.write("external-empty")


def draining(cluster: Cluster) -> None:
    """Fallback to draining endpoints begins, loses one, and ends; then on this node only, with ready ones elsewhere."""
    pods = cluster.slices["some-draining", "a"].pods
    for pod in pods[:2]:
        cluster.wait()
        _conditions(pod, ready=False, terminating=True)
        cluster.write("some-draining")
    cluster.wait()
    _conditions(pods[0], serving=False)
    cluster.write("some-draining")
    cluster.wait()
    pods += cluster.pods("c")
    cluster.write("some-draining")
    local = cluster.slices["node-port-local", "a"].pods
    for pod in local[:2]:
        cluster.wait()
        _conditions(pod, ready=False, terminating=True)
        cluster.write("node-port-local")
    cluster.wait()
    del local[:2]
    cluster.write("node-port-local")
    cluster.wait()
    local += cluster.pods("a")
    cluster.write("node-port-local")


def slices_move(cluster: Cluster) -> None:
    """An endpoint moves between slices, in either order; slices are split, merged, deleted and created again."""
    first, second = (cluster.slices["many-slices", letter] for letter in "ab")
    moved = first.pods.pop()
    cluster.wait()
    second.pods.append(moved)
    cluster.write("many-slices", "b")
    cluster.write("many-slices", "a")
    cluster.wait()
    second.pods.remove(moved)
    cluster.write("many-slices", "b")
    first.pods.append(moved)
    cluster.write("many-slices", "a")
    cluster.wait()
    cluster.delete_slice("many-slices", "c")
    cluster.wait()
    cluster.delete_slice("lb-shared")
    cluster.wait()
    cluster.new_slice("lb-shared", "b", cluster.pods("ab"), [Port.of("alt 8080 8080")], (4, 6))
    cluster.wait()
    cluster.new_slice("no-slice", "a", cluster.pods("cd"), HTTP, (4, 6))
    cluster.wait()
    cluster.delete_slice("no-slice", "a")
    cluster.delete_slice("itp-local-elsewhere", "a")
    cluster.wait()
    cluster.new_slice("itp-local-elsewhere", "b", cluster.pods("cd"), HTTP, (4, 6))
    cluster.wait()
    first.pods.append(second.pods[0])  # two slices have it from now on
    cluster.write("many-slices", "a")


def slices_change_hands(cluster: Cluster) -> None:
    """A slice is moved to another Service and back, by its label alone."""
    for owner in ("plain", "many-slices"):
        cluster.wait()
        cluster.slices["many-slices", "b"].service = owner
        cluster.write("many-slices", "b")


def policies_change(cluster: Cluster) -> None:
    """External and internal policies flip, one by one and together."""
    for name, policy in (("node-port", "Local"), ("external-local", "Cluster"), ("external", "Local")):
        cluster.wait()
        cluster.edit(name, externalTrafficPolicy=policy)
    cluster.wait()
    cluster.edit("lb", externalTrafficPolicy="Local", healthCheckNodePort=cluster.node_port())
    cluster.wait()
    cluster.edit("lb-local-ranges", externalTrafficPolicy="Cluster", healthCheckNodePort=None)
    for name, policy in (("plain", "Local"), ("itp-local", "Cluster"), ("plain", "Cluster"), ("dns", "Local")):
        cluster.wait()
        cluster.edit(name, internalTrafficPolicy=policy)
    cluster.wait()
    cluster.edit("node-port", externalTrafficPolicy="Cluster")
    cluster.edit("external", externalTrafficPolicy="Cluster")
    cluster.edit("external-local", externalTrafficPolicy="Local")
    cluster.edit("itp-local", internalTrafficPolicy="Local")
    cluster.edit("dns", internalTrafficPolicy="Cluster")


def ports_change(cluster: Cluster) -> None:
    """Number, target and protocol of a port change; ports are added and removed; a node port changes its Service."""
    listed = cluster.spec("two-ports")["ports"]
    cluster.wait()
    cluster.edit("two-ports", ports=[{**listed[0], "port": 81}, listed[1]])
    cluster.wait()
    cluster.edit("two-ports", ports=[listed[1]])
    cluster.wait()
    piece = cluster.slices["two-ports", "a"]
    piece.ports = [Port.of("http 80 web=8088"), Port.of("metrics 9100 9100"), Port.of("admin 8081 8081")]
    cluster.write("two-ports")
    cluster.edit("two-ports", ports=[port.spec() for port in piece.ports])
    cluster.wait()
    unnamed = cluster.spec("unnamed")["ports"]
    cluster.edit("unnamed", ports=[{**unnamed[0], "protocol": "UDP"}])
    cluster.slices["unnamed", "a"].ports[0].protocol = "UDP"
    cluster.write("unnamed")
    port = cluster.spec("node-port-empty")["ports"][0]
    cluster.wait()
    cluster.edit("node-port-empty", ports=[{**port, "nodePort": cluster.node_port()}])
    cluster.wait()
    other = cluster.spec("node-port-itp")["ports"][0]
    cluster.edit("node-port-itp", ports=[{**other, "nodePort": port["nodePort"]}])
    cluster.wait()
    cluster.slices["misnamed", "a"].ports[0].name = "http"
    cluster.write("misnamed")
    port = cluster.spec("misnamed")["ports"][0]
    cluster.wait()
    cluster.edit("misnamed", ports=[{**port, "name": "www"}])
    cluster.wait()
    cluster.slices["misnamed", "a"].ports[0].name = "www"
    cluster.write("misnamed")


def types_change(cluster: Cluster) -> None:
    """ClusterIP, NodePort, LoadBalancer and back; a ClusterIP Service becomes an ExternalName for a while."""
    port = cluster.spec("only-four")["ports"][0]
    node_port = {**port, "nodePort": cluster.node_port()}
    cluster.wait()
    cluster.edit("only-four", type="NodePort", externalTrafficPolicy="Cluster", ports=[node_port])
    cluster.wait()
    cluster.edit("only-four", type="LoadBalancer", allocateLoadBalancerNodePorts=True)
    cluster.wait()
    cluster.edit("only-four", ingress=vip(balancer(20)[0]))
    cluster.wait()
    cluster.edit(
        "only-four",
        type="ClusterIP",
        externalTrafficPolicy=None,
        allocateLoadBalancerNodePorts=None,
        ports=[port],
        ingress=[],
    )
    cluster.wait()
    cluster.edit("api", type="ExternalName", externalName="api.example.com", clusterIP=None, clusterIPs=None)
    cluster.wait()
    ips = cluster.cluster_ips((4, 6))
    cluster.edit("api", type="ClusterIP", externalName=None, clusterIP=ips[0], clusterIPs=ips)
    cluster.wait()
    both = [*cluster.spec("only-four")["clusterIPs"], cluster.cluster_ips((6,))[0]]
    cluster.edit("only-four", clusterIPs=both, ipFamilies=["IPv4", "IPv6"], ipFamilyPolicy="PreferDualStack")
    cluster.new_slice("only-four", "b", cluster.slices["only-four", "a"].pods, HTTP, (6,))
    cluster.wait()
    first = cluster.spec("named-target")["clusterIPs"][:1]
    cluster.edit("named-target", clusterIPs=first, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")


def addresses_change(cluster: Cluster) -> None:
    """Load balancer and external addresses are added, removed, change their mode and move between Services."""
    cluster.wait()
    cluster.edit("lb-pending", ingress=vip(*balancer(21)))
    cluster.wait()
    cluster.edit("lb-proxy", ingress=vip(*balancer(9)))
    cluster.wait()
    cluster.edit("lb-portless", ingress=vip(*balancer(13), mode="Proxy"))
    cluster.wait()
    cluster.edit("external", externalIPs=external(1)[::2])
    cluster.wait()
    cluster.edit("external-local", externalIPs=external(2)[1::2])
    cluster.wait()
    cluster.edit("external-local", externalIPs=external(2))
    cluster.wait()
    cluster.edit("external-elsewhere", externalIPs=external(3)[::2])
    cluster.edit("external", externalIPs=[*external(1), external(3)[1], external(3)[3]])
    cluster.wait()
    cluster.edit("lb", loadBalancerSourceRanges=RANGES[1:])
    cluster.wait()
    cluster.edit("lb-ranges", loadBalancerSourceRanges=[*RANGES, *NODE_RANGES])
    cluster.wait()
    cluster.edit("lb-ranges", loadBalancerSourceRanges=RANGES)
    cluster.edit("lb-node-ranges", loadBalancerSourceRanges=None)
    cluster.wait()
    cluster.edit("lb-node-ranges", loadBalancerSourceRanges=NODE_RANGES)


def affinity_changes(cluster: Cluster) -> None:
    """Session affinity is switched on and off, its timeout changes, and an endpoint with clients is removed."""
    cluster.wait()
    cluster.edit("plain", **client_ip(120))
    cluster.wait()
    cluster.edit("plain", sessionAffinity="None", sessionAffinityConfig=None)
    cluster.wait()
    cluster.edit("sticky-minute", **client_ip(90))
    for name in ("sticky", "sticky-minute", "sticky-local"):
        cluster.wait()
        del cluster.slices[name, "a"].pods[0]
        cluster.write(name)
    cluster.wait()
    cluster.slices["sticky", "a"].pods += cluster.pods("a")
    cluster.write("sticky")


def datagrams_lose_their_endpoints(cluster: Cluster) -> None:
    """UDP endpoints are removed one by one and all at once, one stops serving for a while, a slice is deleted."""
    for name in ("dns", "node-port", "lb"):
        cluster.wait()
        del cluster.slices[name, "a"].pods[1]
        cluster.write(name)
    for name in ("dns", "lb"):
        pod = cluster.slices[name, "a"].pods[0]
        cluster.wait()
        _conditions(pod, ready=False, terminating=True)
        cluster.write(name)
        cluster.wait()
        cluster.slices[name, "a"].pods += cluster.pods("c")
        cluster.slices[name, "a"].pods.remove(pod)
        cluster.write(name)
    listed = cluster.spec("node-port")["ports"]
    cluster.wait()
    cluster.edit("node-port", ports=[listed[0], listed[2]])
    cluster.wait()
    cluster.edit("node-port", ports=listed)
    failing = cluster.slices["external", "a"].pods[-1]
    for well in (False, True):
        cluster.wait()
        _conditions(failing, ready=well, serving=well)
        cluster.write("external")
    piece = cluster.slices["syslog", "a"]
    cluster.wait()
    had, piece.pods = piece.pods, []
    cluster.write("syslog")
    cluster.wait()
    piece.pods = had[:1]
    cluster.write("syslog")
    cluster.wait()
    cluster.delete_slice("syslog")
    cluster.wait()
    cluster.new_slice("syslog", "b", cluster.pods("ab"), [Port.of("- 514 5514 UDP")], (4, 6))
    cluster.wait()
    cluster.slices["node-port-elsewhere", "a"].pods += cluster.pods("a")
    cluster.write("node-port-elsewhere")
    cluster.wait()
    cluster.slices["node-port-elsewhere", "a"].pods.pop()
    cluster.write("node-port-elsewhere")


def services_come_and_go(cluster: Cluster) -> None:
    """Services are deleted before or after their slices, added after them, or reuse a cluster IP and a node port."""
    cluster.wait()
    cluster.delete("services", "six-first")
    cluster.wait()
    cluster.delete_slice("six-first")
    cluster.wait()
    cluster.delete_slice("unnamed")
    cluster.delete("services", "unnamed")
    freed = cluster.spec("draining-elsewhere")
    cluster.wait()
    cluster.delete("services", "draining-elsewhere")
    cluster.service("heir", "http 80 8080,dns 53 5353 UDP", [cluster.pods("ab")], type="NodePort")
    ports = cluster.spec("heir")["ports"]
    ports = [{**ports[0], "nodePort": freed["ports"][0]["nodePort"]}, ports[1]]
    cluster.edit("heir", clusterIP=freed["clusterIP"], clusterIPs=freed["clusterIPs"], ports=ports)
    cluster.wait()
    cluster.new_slice("late", "a", cluster.pods("ad"), HTTP, (6, 4))
    cluster.wait()
    cluster.service("late", "http 80 8080", [], families=(6, 4))
    cluster.wait()
    cluster.service("short-lived", "dns 53 5353 UDP", [cluster.pods("ab")])
    for name in ("short-lived", "clock"):
        cluster.wait()
        cluster.delete("services", name)
        cluster.delete_slice(name)


def nothing_and_much(cluster: Cluster) -> None:
    """Changes without effect on a proxy, a relist, and many changes in one sync period, some of them undone in it."""
    cluster.wait()
    cluster.again("services", "plain")
    cluster.edit_object("services", "plain", ("metadata", "labels", "release"), "r2")
    cluster.write("plain")
    cluster.wait()
    cluster.mark("RELIST", "endpointslices", {"resourceVersion": "5000"})
    cluster.delete("endpointslices", "nobodys")
    cluster.wait()
    for name in ("plain", "itp-local", "external", "lb-several", "zones", "sticky", "wide"):
        cluster.slices[name, "a"].pods += cluster.pods("b")
        cluster.write(name)
    cluster.edit("plain", ports=[{**cluster.spec("plain")["ports"][0], "port": 8000}])
    cluster.edit("plain", ports=[{**cluster.spec("plain")["ports"][0], "port": 80}])
    cluster.slices["wide", "a"].pods.pop()
    cluster.write("wide")


def _conditions(pod: Pod, **changed: bool) -> None:
    pod.conditions = {**(pod.conditions or {}), **changed}


SCENES = (
    endpoints_come_and_go,
    draining,
    slices_move,
    slices_change_hands,
    policies_change,
    ports_change,
    types_change,
    addresses_change,
    affinity_changes,
    datagrams_lose_their_endpoints,
    hints_change,
    nodes_report,
    services_come_and_go,
    nothing_and_much,
)
"""The scenes in order."""
