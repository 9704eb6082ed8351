"""Rows about the selection of endpoints per client, and the detection of pods."""

from __future__ import annotations

from .clusters import CLIENT, E1, E2, E3, NODE, NODE_PORT, OTHER_POD, POD, end, flow, node, service, slice_
from .row import ALL, BOTH, NAMES, NFTABLES, OUTSIDE, TD_OFF, V6, C, Row, X, delete, flows, full, hinted, local, put

ROWS = [
    Row(
        "TERM-01 TERM-02 TERM-05",
        "draining ones only without ready ones",
        [full(), slice_(end(E1, "n2", "draining"), end(E2, "n2", "gone"), end(E3, "n2", False))],
        flows(POD, (C,), "dnat", E1),
        ((put(slice_(end(E1, "n2", "draining"), end(E3, "n2"))), flows(POD, (C,), "dnat", E3)),),
    ),
    Row(
        "TERM-03 TERM-06",
        "fallback is decided locally",
        [full(**local()), slice_(end(E1, "n1", "draining"), end(E2, "n1", "gone"), end(E3, "n2"))],
        [*flows(CLIENT, OUTSIDE, "dnat", E1), flow(POD, C, "dnat", E3)],
        (
            (put(slice_(end(E3, "n2", "draining"))), [*flows(CLIENT, OUTSIDE, "drop"), flow(POD, C, "dnat", E3)]),
            (put(slice_(end(E3, "n2", "gone"))), [*flows(CLIENT, OUTSIDE, "reject"), flow(POD, C, "reject")]),
        ),
    ),
    Row(
        "TERM-04 NOEP-01 TRAF-17 CMP-05",
        "nothing usable",
        [full(**local(cluster_too=False)), slice_(end(E1, "n1", "gone"))],
        [f for who in (POD, NODE, CLIENT) for f in flows(who, ALL, "reject")],
        modes=NFTABLES,
    ),
    Row(
        "TERM-07",
        "external Cluster uses the cluster set",
        [full(), slice_(end(E1, "n1", "draining"), end(E3, "n2"))],
        flows(CLIENT, OUTSIDE, "dnat+", E3),
    ),
    Row(
        "TOPO-01 TOPO-02",
        "zone hints",
        [node("a"), service(), slice_(hinted(E1, "a", "b"), hinted(E2, "b"))],
        flows(POD, (C,), "dnat", E1),
        (
            (put(slice_(hinted(E1, "a"), end(E2))), flows(POD, (C,), "dnat", E1, E2)),
            (put(slice_(hinted(E1, "a"), hinted(E2, "b"), hinted(E3, ready=False))), flows(POD, (C,), "dnat", E1)),
            (put(slice_(hinted(E1, "c"), hinted(E2, "b"))), flows(POD, (C,), "dnat", E1, E2)),
            (
                put(slice_(hinted(E1, "a", ready="draining"), hinted(E2, "b", ready="draining"))),
                flows(POD, (C,), "dnat", E1, E2),
            ),
        ),
    ),
    Row(
        "TOPO-03",
        "annotation where distribution is off",
        [node("a"), service(), slice_(hinted(E1, "a"), hinted(E2, "b"))],
        flows(POD, (C,), "dnat", E1, E2),
        (
            (put(service(meta={"annotations": {NAMES: "Auto"}})), flows(POD, (C,), "dnat", E1)),
            (put(service(meta={"annotations": {NAMES: "Disabled"}})), flows(POD, (C,), "dnat", E1, E2)),
            (
                put(
                    service(
                        meta={"annotations": {NAMES: "Auto", "service.kubernetes.io/topology-aware-hints": "disabled"}}
                    )
                ),
                flows(POD, (C,), "dnat", E1, E2),
            ),
        ),
        config=TD_OFF,
    ),
    Row(
        "TOPO-04",
        "node hints before zone hints",
        [node("a"), service(), slice_(hinted(E1, "a", nodes=("n1",)), hinted(E2, "a", nodes=("n2",)))],
        flows(POD, (C,), "dnat", E1),
        ((put(slice_(hinted(E1, "a", nodes=("n3",)), hinted(E2, "b", nodes=("n2",)))), flows(POD, (C,), "dnat", E1)),),
    ),
    Row(
        "TOPO-04",
        "node hints, gate off",
        [node("a"), service(), slice_(hinted(E1, "a", nodes=("n1",)), hinted(E2, "a", nodes=("n2",)))],
        flows(POD, (C,), "dnat", E1, E2),
        config={"featureGates": {"PreferSameTrafficDistribution": False}},
    ),
    Row(
        "TOPO-05",
        "hints, gate off",
        [node("a"), service(), slice_(hinted(E1, "a"), hinted(E2, "b"))],
        flows(POD, (C,), "dnat", E1, E2),
        config={"featureGates": {"TopologyAwareHints": False}},
    ),
    Row(
        "TOPO-06",
        "Local ignores hints",
        [node("a"), full(**local()), slice_(hinted(E1, "b", on="n1"), hinted(E2, "a"))],
        [*flows(CLIENT, OUTSIDE, "dnat", E1), flow(POD, C, "dnat", E2)],
    ),
    Row(
        "TOPO-07",
        "the node's zone changes, then it goes",
        [node("a"), service(), slice_(hinted(E1, "a"), hinted(E2, "b"))],
        flows(POD, (C,), "dnat", E1),
        (
            (put(node("b")), flows(POD, (C,), "dnat", E2)),
            ([{"op": "replace", "object": node("a", "n2")}], flows(POD, (C,), "dnat", E2)),
            ([delete("Node", "n1")], flows(POD, (C,), "dnat", E1, E2)),
        ),
    ),
    Row(
        "ITP-01 ITP-02 CMP-06",
        "internal Local",
        [full(internalTrafficPolicy="Local"), BOTH],
        [
            flow(POD, C, "dnat", E1),
            flow(NODE, C, "dnat+", E1),
            flow(CLIENT, C, "dnat+", E1),
            *flows(CLIENT, OUTSIDE, "dnat+", E1, E2),
        ],
        (
            (
                put(slice_(end(E2, "n2"))),
                [
                    *flows(POD, (C,), "drop"),
                    *flows(NODE, (C,), "drop"),
                    *flows(CLIENT, (C,), "drop"),
                    *flows(CLIENT, OUTSIDE, "dnat+", E2),
                ],
            ),
        ),
    ),
    Row(
        "ETP-01 MASQ-01 EXT-01 LB-01 TRAF-01 TRAF-03 TRAF-05 TRAF-07 TRAF-09",
        "Cluster, every path",
        [full(), BOTH],
        [
            flow(POD, C, "dnat", E1, E2),
            flow(NODE, C, "dnat+", E1, E2),
            flow(CLIENT, C, "dnat+", E1, E2),
            flow(OTHER_POD, C, "dnat", E1, E2),
            *[f for who in (POD, NODE, CLIENT) for f in flows(who, OUTSIDE, "dnat+", E1, E2)],
        ],
    ),
    Row(
        "ETP-02 ETP-03 ETP-04 TRAF-02 TRAF-04 TRAF-06 TRAF-08 TRAF-10 CMP-07 NOEP-02 NFT-11",
        "Local, every path",
        [full(**local(cluster_too=False)), BOTH],
        [
            flow(POD, C, "dnat", E1),
            flow(NODE, C, "dnat+", E1),
            flow(CLIENT, C, "dnat+", E1),
            *flows(POD, OUTSIDE, "dnat", E1, E2),
            *flows(NODE, OUTSIDE, "dnat+", E1, E2),
            *flows(CLIENT, OUTSIDE, "dnat", E1),
        ],
        (
            (
                put(slice_(end(E2, "n2"))),
                [
                    *flows(POD, (C,), "drop"),
                    *flows(CLIENT, ALL, "drop"),
                    *flows(POD, OUTSIDE, "dnat", E2),
                    *flows(NODE, OUTSIDE, "dnat+", E2),
                ],
            ),
        ),
    ),
    Row(
        "ETP-05 MASQ-01 TRAF-21 DET-01",
        "no detector",
        [full(**local()), BOTH],
        [
            *flows(POD, OUTSIDE, "dnat", E1),
            *flows(NODE, OUTSIDE, "dnat+", E1, E2),
            flow(POD, C, "dnat", E1, E2),
            flow(NODE, C, "dnat", E1, E2),
            flow(CLIENT, C, "dnat", E1, E2),
        ],
        config={"clusterCIDR": ""},
    ),
    Row(
        "DET-01",
        "the family has no CIDR",
        [full(), BOTH],
        flows(CLIENT, (C,), "dnat", E1, E2),
        config={"clusterCIDR": "fd00:10::/32"},
    ),
    Row(
        "DET-02",
        "pod CIDR of the node",
        [node(spec={"podCIDRs": ["10.0.0.0/24"]}), service(), BOTH],
        [flow(POD, C, "dnat", E1, E2), flow(OTHER_POD, C, "dnat+", E1, E2)],
        config={"detectLocalMode": "NodeCIDR", "clusterCIDR": ""},
    ),
    Row(
        "DET-03",
        "bridge",
        [full(**local()), BOTH],
        [
            flow(POD, C, "dnat", E1, E2),
            flow(NODE, C, "dnat+", E1, E2),
            flow(CLIENT, C, "dnat+", E1, E2),
            *flows(POD, OUTSIDE, "dnat", E1, E2),
        ],
        config={"detectLocalMode": "BridgeInterface", "bridgeInterface": "cbr0", "clusterCIDR": ""},
    ),
    Row(
        "DET-03",
        "interface prefix",
        [full(**local()), BOTH],
        [flow(POD, C, "dnat", E1, E2), flow(CLIENT, C, "dnat+", E1, E2), *flows(POD, OUTSIDE, "dnat", E1, E2)],
        config={"detectLocalMode": "InterfaceNamePrefix", "interfaceNamePrefix": "veth", "clusterCIDR": ""},
    ),
    Row(
        "DET-04",
        "an unknown mode means no detector",
        [full(), BOTH],
        flows(CLIENT, (C,), "dnat", E1, E2),
        config={"detectLocalMode": "Magic"},
    ),
    Row(
        "ETP-02 ETP-03 ETP-04 DS-03",
        "Local in IPv6",
        [
            service("NodePort", ip="fd00:96::41", ipFamilies=["IPv6"], **local()),
            slice_(end("fd00:10::a", "n1"), end("fd00:10::b", "n2"), family="IPv6"),
        ],
        [
            flow("2600::1", f"[2001:db8::1]:{NODE_PORT}", "dnat", "fd00:10::a", origin="external"),
            flow("fd00:10::2", f"[2001:db8::1]:{NODE_PORT}", "dnat", "fd00:10::a", "fd00:10::b"),
            flow("2001:db8::1", f"[2001:db8::1]:{NODE_PORT}", "dnat+", "fd00:10::a", "fd00:10::b", origin="node-host"),
        ],
        config=V6,
    ),
    Row(
        "AFF-01 AFF-02 AFF-03 AFF-04 CMP-11",
        "affinity, every set",
        [full(sessionAffinity="ClientIP", **local()), slice_(end(E1, "n1"), end(E3, "n1"), end(E2, "n2"))],
        [*flows(POD, ALL, "dnat", E1, E2, E3), *flows(CLIENT, OUTSIDE, "dnat", E1, E3)],
        (
            (put(slice_(end(E2, "n2"))), [*flows(CLIENT, OUTSIDE, "drop"), *flows(POD, OUTSIDE, "dnat", E2)]),
            (put(full(**local())), flows(POD, OUTSIDE, "dnat", E2)),
        ),
    ),
    Row(
        "MET-05",
        "ports without local endpoints",
        [full(**local(cluster_too=False)), slice_(end(E2, "n2"))],
        [flow(CLIENT, X, "drop")],
        asserts={
            "metrics": {
                'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal"}': 1,
                'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"}': 1,
            }
        },
    ),
    Row(
        "MET-05",
        "no endpoints at all count for nothing",
        [full(**local(cluster_too=False))],
        [flow(CLIENT, X, "reject")],
        asserts={"metrics": {'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal"}': 0}},
    ),
    Row(
        "INV-04",
        "slice before Service",
        [BOTH],
        flows(POD, (C,), "no-op"),
        ((put(service()), flows(POD, (C,), "dnat", E1, E2)), ([delete("Service", "s1")], flows(POD, (C,), "no-op"))),
        config={"serviceCIDRs": []},
    ),
    Row(
        "INV-05",
        "the slice of a live Service goes",
        [full(), BOTH],
        flows(CLIENT, ALL, "dnat+", E1, E2),
        (([delete("EndpointSlice", "s1-a")], flows(CLIENT, ALL, "reject")),),
    ),
]
