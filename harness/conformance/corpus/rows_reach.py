"""Rows about destinations: cluster IPs, node ports, load balancers, hairpin, both families."""

from __future__ import annotations

from .clusters import CIP, CLIENT, E1, E2, LB, NODE, NODE_PORT, POD, end, flow, service, slice_
from .row import ALL, BOTH, NFTABLES, NP, OUTSIDE, V6, C, L, Row, X, flows, full, local, ranged

ROWS = [
    Row(
        "CIP-01 CIP-04 MASQ-04 TRAF-21",
        "masqueradeAll",
        [full(**local()), BOTH],
        [*flows(POD, (C,), "dnat+", E1, E2), *flows(POD, OUTSIDE, "dnat", E1, E2), *flows(CLIENT, OUTSIDE, "dnat", E1)],
        config={"masqueradeAll": True, "masqueradeBit": 20},
    ),
    Row(
        "CIP-02 CIP-05 CMP-03 CMP-04 TRAF-18 TRAF-19",
        "undefined ports, unallocated addresses",
        [service(), BOTH],
        [
            flow(POD, f"{CIP}:81", "reject"),
            flow(POD, f"{CIP}:80/udp", "reject"),
            flow(POD, "172.30.9.9:80", "drop"),
            flow(NODE, "172.30.9.9:80", "drop"),
            flow(CLIENT, f"{CIP}:81", "reject"),
            flow(POD, "172.29.0.1:80", "no-op"),
        ],
        modes=NFTABLES,
    ),
    Row(
        "CIP-02",
        "ranges are unknown while the gate is off",
        [service(), BOTH],
        [flow(POD, "172.30.9.9:80", "no-op"), flow(POD, f"{CIP}:81", "reject")],
        config={"featureGates": {"MultiCIDRServiceAllocator": False}},
        modes=NFTABLES,
    ),
    Row("HAIR-01 TRAF-11 CMP-17", "hairpin", [full(**local()), slice_(end(E1, "n1"))], flows(E1, ALL, "dnat+", E1)),
    Row("HAIR-01 TRAF-20", "an endpoint itself", [full(), slice_(end(E1, "n1"))], [flow(POD, f"{E1}:80", "no-op")]),
    Row(
        "LB-02 LB-03 TRAF-15 TRAF-16",
        "source ranges",
        [ranged("203.0.113.0/25"), BOTH],
        [
            flow(CLIENT, L, "dnat+", E1, E2),
            *[flow(who, L, "drop") for who in (POD, NODE)],
            *flows(POD, (NP, X), "dnat+", E1, E2),
            flow(POD, C, "dnat", E1, E2),
            flow("203.0.113.200", L, "drop", origin="external"),
        ],
    ),
    Row(
        "LB-03 LB-07",
        "the node is in a range",
        [ranged("192.168.0.0/24"), BOTH],
        [flow(NODE, L, "dnat+", E1, E2), flow(LB, L, "dnat+", E1, E2, origin="node-host"), flow(CLIENT, L, "drop")],
    ),
    Row(
        "LB-04 CMP-08",
        "source ranges without endpoints",
        [ranged("203.0.113.0/25")],
        [flow(CLIENT, L, "reject"), flow(POD, L, "drop")],
        modes=NFTABLES,
    ),
    Row("LB-06", "ranges of the other family", [ranged("fd00::/8"), BOTH], flows(CLIENT, (L,), "dnat+", E1, E2)),
    Row(
        "NOEP-04",
        "nothing usable, node ports",
        [full()],
        [
            flow(CLIENT, NP, "reject"),
            flow(CLIENT, f"192.168.1.2:{NODE_PORT}", "no-op"),
            flow(NODE, f"127.0.0.1:{NODE_PORT}", "no-op"),
        ],
        modes=NFTABLES,
    ),
    Row(
        "NP-01 NP-03 NP-08 TRAF-14 CMP-01",
        "the node's own address",
        [full(), BOTH],
        [flow(CLIENT, NP, "dnat+", E1, E2), flow(CLIENT, f"192.168.1.2:{NODE_PORT}", "no-op")],
        config={"nodePortAddresses": ["primary"]},
    ),
    Row(
        "NP-02 NP-06",
        "all addresses but loopback",
        [full(), BOTH],
        [
            *flows(CLIENT, (NP, f"192.168.1.2:{NODE_PORT}"), "dnat+", E1, E2),
            flow(NODE, f"127.0.0.1:{NODE_PORT}", "no-op"),
            flow(CLIENT, f"203.0.113.99:{NODE_PORT}", "no-op"),
        ],
        config={"nodePortAddresses": ["0.0.0.0/0", "192.168.0.0/24"], "localhostNodePorts": False},
    ),
    Row(
        "NP-02",
        "some addresses",
        [full(), BOTH],
        [flow(CLIENT, NP, "no-op"), flow(CLIENT, f"192.168.1.2:{NODE_PORT}", "dnat+", E1, E2)],
        config={"nodePortAddresses": ["192.168.1.0/24"]},
    ),
    Row(
        "NP-02",
        "the other family only",
        [full(), BOTH],
        flows(CLIENT, (NP, f"192.168.1.2:{NODE_PORT}"), "dnat+", E1, E2),
        config={"nodePortAddresses": ["2001:db8::/64"]},
    ),
    Row(
        "NP-06 TRAF-12 CMP-02",
        "loopback is never taken",
        [full(), BOTH],
        [flow("127.0.0.1", f"127.0.0.1:{NODE_PORT}", "no-op", origin="node-host")],
        config={"nodePortAddresses": ["127.0.0.0/8"]},
        modes=NFTABLES,
    ),
    Row(
        "NP-09",
        "no address matches",
        [full(), BOTH],
        flows(CLIENT, (NP,), "no-op"),
        config={"nodePortAddresses": ["9.9.9.0/24"]},
    ),
    Row(
        "NP-08",
        "no node port, no load balancer node ports",
        [service("LoadBalancer", ports=[("http", "TCP", 80, 0)], lb=[LB]), BOTH],
        [flow(CLIENT, NP, "no-op"), flow(CLIENT, L, "dnat+", E1, E2)],
    ),
    Row(
        "NP-08",
        "UDP and SCTP node ports",
        [
            service("NodePort", ports=[("a", "UDP", 53, NODE_PORT), ("b", "SCTP", 53, NODE_PORT)]),
            slice_(end(E1), ports=[{"name": n, "port": 5353, "protocol": p} for n, p in (("a", "UDP"), ("b", "SCTP"))]),
        ],
        [
            flow(CLIENT, f"{NP}/udp", "dnat+", f"{E1}:5353"),
            flow(CLIENT, f"{NP}/sctp", "dnat+", f"{E1}:5353"),
            flow(CLIENT, NP, "no-op"),
        ],
    ),
    Row(
        "DS-01 DS-03 TRAF-13",
        "both families",
        [
            service("NodePort", clusterIPs=[CIP, "fd00:96::41"], ipFamilies=["IPv4", "IPv6"]),
            slice_(end(E1, "n1")),
            slice_(end("fd00:10::a", "n1"), name="b", family="IPv6"),
        ],
        [
            flow(POD, C, "dnat", E1),
            flow("fd00:10::2", "[fd00:96::41]:80", "dnat", "fd00:10::a"),
            flow("2600::1", f"[2001:db8::1]:{NODE_PORT}", "dnat+", "fd00:10::a", origin="external"),
            flow("fd00:10::a", "[fd00:96::41]:80", "dnat+", "fd00:10::a"),
            flow("::1", f"[::1]:{NODE_PORT}", "no-op", origin="node-host"),
        ],
        config={"ipFamily": "dual"},
    ),
    Row(
        "CIP-02",
        "undefined ports, unallocated addresses, in IPv6",
        [service(ip="fd00:96::41", ipFamilies=["IPv6"])],
        [flow("fd00:10::2", "[fd00:96::77]:80", "drop"), flow("fd00:10::2", "[fd00:96::41]:81", "reject")],
        config=V6,
        modes=NFTABLES,
    ),
]
