"""Rows about which Services and endpoints are proxied at all."""

from __future__ import annotations

from .clusters import CIP, CLIENT, E1, E2, E3, EXT, LB, POD, end, flow, service, slice_
from .row import BOTH, HEADLESS, NP, OUTSIDE, PROXY_NAME, C, L, Row, X, delete, flows, full, local, put

ROWS = [
    Row(
        "SVC-01",
        "label of another proxy",
        [service(meta={"labels": {PROXY_NAME: "x"}}), BOTH],
        flows(POD, (C,), "no-op"),
        (
            (put(service()), flows(POD, (C,), "dnat", E1, E2)),
            (put(service(meta={"labels": {PROXY_NAME: ""}})), flows(POD, (C,), "no-op")),
        ),
        config={"serviceCIDRs": []},
    ),
    Row(
        "SVC-01",
        "slice of a headless label",
        [service(), slice_(end(E1), **{HEADLESS: ""})],
        flows(POD, (C,), "reject"),
    ),
    Row(
        "SVC-01a",
        "each kind has a label of its own",
        [
            service(meta={"labels": {HEADLESS: ""}}),
            slice_(end(E1), **{PROXY_NAME: "x"}),
            slice_(end(E2), name="b", **{HEADLESS: ""}),
        ],
        flows(POD, (C,), "dnat", E1),
    ),
    Row(
        "SVC-01",
        "up to 1.35 both labels hid both kinds",
        [service(meta={"labels": {HEADLESS: ""}}), BOTH],
        flows(POD, (C,), "no-op"),
        config={"serviceCIDRs": []},
        last="1.35",
    ),
    Row(
        "SVC-16",
        "external IPs switched off by their gate",
        [full(), BOTH],
        [*flows(CLIENT, (X,), "no-op"), *flows(CLIENT, (NP, L), "dnat+", E1, E2)],
        config={"featureGates": {"AllowServiceExternalIPs": False}},
    ),
    Row("SVC-02", "headless", [service("NodePort", ip="None"), BOTH], flows(CLIENT, (NP,), "no-op")),
    Row("SVC-02", "empty cluster IP", [service("NodePort", ip=""), BOTH], flows(CLIENT, (NP,), "no-op")),
    Row("SVC-02", "ExternalName", [service("ExternalName", externalIPs=[EXT]), BOTH], flows(CLIENT, (X,), "no-op")),
    Row(
        "SVC-03",
        "protocols apart",
        [
            service(ports=[("http", "TCP", 80, 0), ("dns", "UDP", 80, 0), ("sig", "SCTP", 80, 0)]),
            slice_(end(E1), ports=[{"name": "http", "port": 80, "protocol": "TCP"}]),
            slice_(end(E2), name="b", ports=[{"name": "dns", "port": 80, "protocol": "UDP"}]),
            slice_(end(E3), name="c", ports=[{"name": "sig", "port": 80, "protocol": "SCTP"}]),
        ],
        [flow(POD, C, "dnat", E1), flow(POD, f"{C}/udp", "dnat", E2), flow(POD, f"{C}/sctp", "dnat", E3)],
    ),
    Row(
        "SVC-04",
        "no cluster IP of the family",
        [service("NodePort", ip="fd00:96::1", ipFamilies=["IPv6"]), BOTH],
        flows(CLIENT, (NP,), "no-op"),
    ),
    Row(
        "SVC-04",
        "place in ipFamilies",
        [service(ip=CIP, clusterIPs=["fd00:96::1", CIP], ipFamilies=["IPv6", "IPv4"]), BOTH],
        flows(POD, (C,), "dnat", E1, E2),
    ),
    Row(
        "SVC-04",
        "without ipFamilies clusterIP counts alone",
        [service(clusterIPs=["fd00:96::9", CIP], ip=CIP, ipFamilies=[]), BOTH],
        flows(POD, (C,), "dnat", E1, E2),
    ),
    Row(
        "SVC-05",
        "addresses of no use are passed over",
        [
            service(
                "LoadBalancer",
                externalIPs=["fd00::9", " ", "nonsense", EXT],
                lb=[LB, "fd00::8"],
                loadBalancerSourceRanges=["fd00::/64", "203.0.113.0/24"],
            ),
            BOTH,
        ],
        [*flows(CLIENT, (X, L), "dnat+", E1, E2), flow("198.51.100.7", L, "drop", origin="external")],
    ),
    Row(
        "SVC-06",
        "leading zeros and spaces",
        [
            service(
                "LoadBalancer",
                ip="172.30.000.041",
                externalIPs=["192.168.099.011"],
                lb=["1.2.3.004"],
                loadBalancerSourceRanges=[" 203.0.113.000/025 "],
            ),
            slice_(end("10.180.00.01")),
        ],
        [
            *flows(CLIENT, (X, L), "dnat+", E1),
            flow(POD, C, "dnat", E1),
            flow("203.0.113.200", L, "drop", origin="external"),
        ],
    ),
    Row(
        "SVC-07",
        "hostname and ipMode",
        [
            service(
                "LoadBalancer",
                lb=[{"hostname": "lb.example"}, {"ip": LB, "ipMode": "Proxy"}, {"ip": "1.2.3.5", "ipMode": "VIP"}],
            ),
            BOTH,
        ],
        [flow(CLIENT, L, "no-op"), flow(CLIENT, "1.2.3.5:80", "dnat+", E1, E2)],
    ),
    Row(
        "SVC-07",
        "gate off",
        [service("LoadBalancer", lb=[{"ip": LB, "ipMode": "Proxy"}]), BOTH],
        flows(CLIENT, (L,), "dnat+", E1, E2),
        config={"featureGates": {"LoadBalancerIPMode": False}},
    ),
    Row(
        "SVC-08",
        "policy of a ClusterIP with external IP",
        [service(externalIPs=[EXT], **local()), BOTH],
        flows(CLIENT, (X,), "dnat", E1),
    ),
    Row(
        "SVC-08 SVC-11",
        "policy of a ClusterIP with load balancer address",
        [service(lb=[LB], **local()), BOTH],
        flows(CLIENT, (L,), "dnat+", E1, E2),
    ),
    Row(
        "SVC-10 ITP-01",
        "internal Local, an endpoint elsewhere",
        [service(internalTrafficPolicy="Local"), slice_(end(E2, "n2"))],
        flows(POD, (C,), "drop"),
        ((put(slice_(end(E2, "n2"), end(E1, "n1", "draining"))), flows(POD, (C,), "dnat", E1)),),
    ),
    Row(
        "SVC-12 EPS-09",
        "no change",
        [service(), BOTH],
        flows(POD, (C,), "dnat", E1, E2),
        (
            (put(service(), BOTH), flows(POD, (C,), "dnat", E1, E2)),
            ([delete("EndpointSlice", "zz")], flows(POD, (C,), "dnat", E1, E2)),
        ),
    ),
    Row(
        "EPS-01",
        "slices that are ignored",
        [
            service(),
            slice_(end(E1)),
            slice_(end("x.example"), name="f", family="FQDN"),
            {**slice_(end(E2), name="g"), "metadata": {"namespace": "ns", "name": "g"}},
        ],
        flows(POD, (C,), "dnat", E1),
    ),
    Row(
        "EPS-02",
        "union, one deleted, one moved",
        [service(), slice_(end(E1)), slice_(end(E2), name="b")],
        flows(POD, (C,), "dnat", E1, E2),
        (
            ([delete("EndpointSlice", "b")], flows(POD, (C,), "dnat", E1)),
            (put(slice_(end(E1), name="c"), slice_(end(E3))), flows(POD, (C,), "dnat", E1, E3)),
        ),
    ),
    Row(
        "EPS-03",
        "ports without name or number",
        [
            service(ports=[("", "TCP", 80, 0)]),
            slice_(end(E1), ports=[{"name": None, "port": 80, "protocol": "TCP"}]),
            slice_(end(E2), name="b", ports=[{"name": "", "port": None, "protocol": "TCP"}]),
            slice_(end(E3), name="c", ports=[{"name": "", "port": 8080}]),
        ],
        flows(POD, (C,), "dnat", f"{E3}:8080"),
    ),
    Row(
        "EPS-04",
        "first address, right family",
        [service(), slice_({"addresses": [E1, E2]}, {"addresses": []}, end("fd00::9"))],
        flows(POD, (C,), "dnat", E1),
    ),
    Row(
        "EPS-05",
        "duplicates, the local one wins",
        [full(**local()), slice_(end(E1, "n2")), slice_(end(E1, "n1"), name="b"), slice_(end(E1, "n3"), name="c")],
        flows(CLIENT, OUTSIDE, "dnat", E1),
        last="1.35",
    ),
    Row(
        "EPS-05a",
        "duplicates, the running one wins, wherever it is",
        [
            full(**local(cluster_too=True)),
            slice_(end(E1, "n1", "draining")),
            slice_(end(E1, "n2"), name="b"),
            slice_(end(E1, "n1", "draining"), name="c"),
        ],
        [*flows(CLIENT, OUTSIDE, "drop"), flow(POD, C, "dnat", E1)],
    ),
    Row(
        "EPS-05a",
        "of running duplicates the last, of terminating ones the first",
        [
            full(**local(cluster_too=True)),
            slice_(end(E1, "n2"), end(E2, "n1", "draining"), name="a"),
            slice_(end(E1, "n1"), end(E2, "n2", "draining"), name="b"),
        ],
        flows(CLIENT, OUTSIDE, "dnat", E1),
    ),
    Row(
        "EPS-05",
        "one address, two ports",
        [
            service(),
            slice_(end(E1)),
            slice_(end(E1), name="b", ports=[{"name": "http", "port": 81, "protocol": "TCP"}]),
        ],
        flows(POD, (C,), "dnat", E1, f"{E1}:81"),
    ),
    Row(
        "EPS-06",
        "nil conditions, node name",
        [full(**local()), slice_(end(E1, "n1", None), end(E2, None), end(E3, "N1"))],
        [*flows(CLIENT, OUTSIDE, "dnat", E1), flow(POD, C, "dnat", E1, E2, E3)],
    ),
]
