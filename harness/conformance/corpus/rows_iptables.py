"""Rows of mode iptables where it differs from the others (CMP), or has additional features."""

from __future__ import annotations

from .clusters import CIP, CLIENT, E1, E2, EXT, LB, NODE, NODE_PORT, POD, Json, end, flow, service, slice_
from .row import BOTH, IPTABLES, NP, V6, C, L, Row, X, flows, full, local, ranged

HOME = "127.0.0.1"
HOME_NP, SECOND_NP = f"{HOME}:{NODE_PORT}", f"192.168.1.2:{NODE_PORT}"
CHECK = 32100
MARTIANS, NO_MARTIANS = {"martian_firewall_rule": True}, {"martian_firewall_rule": False}


def at_home(wanted: str, *ends: str, target: str = HOME_NP) -> Json:
    """From loopback to loopback."""
    return flow(HOME, target, wanted, *ends, origin="node-host")


ROWS = [
    Row(
        "CIP-03 CMP-03 CMP-04 TRAF-18 TRAF-19",
        "undefined ports and unallocated addresses are left alone",
        [service(), BOTH],
        [
            *[flow(who, f"{CIP}:81", "no-op") for who in (POD, NODE, CLIENT)],
            flow(POD, f"{CIP}:80/udp", "no-op"),
            *[flow(who, "172.30.9.9:80", "no-op") for who in (POD, NODE)],
        ],
        modes=IPTABLES,
    ),
    Row(
        "NP-01 NP-04 CMP-01",
        "every local address by default",
        [full(), BOTH],
        [
            *flows(CLIENT, (NP, SECOND_NP), "dnat+", E1, E2),
            *flows(POD, (NP, SECOND_NP), "dnat+", E1, E2),
            flow(CLIENT, f"203.0.113.99:{NODE_PORT}", "no-op"),
        ],
        modes=IPTABLES,
    ),
    Row(
        "NP-04 TRAF-13 CMP-02",
        "never on ::1",
        [service("NodePort", ip="fd00:96::41", ipFamilies=["IPv6"]), slice_(end("fd00:10::a", "n1"), family="IPv6")],
        [
            flow("::1", f"[::1]:{NODE_PORT}", "no-op", origin="node-host"),
            flow("2001:db8::1", f"[2001:db8:1::2]:{NODE_PORT}", "dnat+", "fd00:10::a", origin="node-host"),
        ],
        asserts=NO_MARTIANS,
        config=V6,
        modes=IPTABLES,
    ),
    Row(
        "NP-04",
        "listed loopback addresses of IPv6 are skipped",
        [service("NodePort", ip="fd00:96::41", ipFamilies=["IPv6"]), slice_(end("fd00:10::a", "n1"), family="IPv6")],
        [
            flow("::1", f"[::1]:{NODE_PORT}", "no-op", origin="node-host"),
            flow("2600::1", f"[2001:db8::1]:{NODE_PORT}", "no-op", origin="external"),
        ],
        config=V6 | {"nodePortAddresses": ["::1/128"]},
        modes=IPTABLES,
    ),
    Row(
        "NP-05 TRAF-12 CMP-02",
        "localhost, and who else asks for it",
        [full(), BOTH],
        [
            at_home("dnat+", E1, E2),
            flow(NODE, HOME_NP, "dnat+", E1, E2),
            at_home("no-op", target=f"{HOME}:99"),
            flow(NODE, f"{HOME}:99", "drop"),
            flow(CLIENT, f"{HOME}:99", "drop"),
        ],
        asserts=MARTIANS,
        modes=IPTABLES,
    ),
    Row(
        "NP-05 ETP-04 TRAF-12",
        "localhost goes anywhere whatever the policy",
        [full(**local()), BOTH],
        [at_home("dnat+", E1, E2), *flows(CLIENT, (NP, SECOND_NP), "dnat", E1)],
        ((([{"op": "replace", "object": slice_(end(E2, "n2"))}]), [at_home("dnat+", E2), flow(CLIENT, NP, "drop")]),),
        modes=IPTABLES,
    ),
    Row(
        "NP-05",
        "localhost alone is listed",
        [full(), BOTH],
        [at_home("dnat+", E1, E2), *flows(CLIENT, (NP, SECOND_NP), "no-op")],
        asserts=MARTIANS,
        config={"nodePortAddresses": ["127.0.0.0/8"]},
        modes=IPTABLES,
    ),
    Row(
        "NP-05",
        "localhost is covered by a listed block",
        [full(), BOTH],
        [at_home("dnat+", E1, E2), flow(CLIENT, NP, "no-op")],
        asserts=MARTIANS,
        config={"nodePortAddresses": ["112.0.0.0/4"]},
        modes=IPTABLES,
    ),
    Row(
        "NP-04 NP-05",
        "localhost is not listed",
        [full(), BOTH],
        [at_home("no-op"), flow(CLIENT, NP, "dnat+", E1, E2), flow(CLIENT, SECOND_NP, "no-op")],
        asserts=NO_MARTIANS,
        config={"nodePortAddresses": ["192.168.0.0/24"]},
        modes=IPTABLES,
    ),
    Row(
        "NP-03 NP-05",
        "localhost is not among the primary addresses",
        [full(), BOTH],
        [at_home("no-op"), flow(CLIENT, NP, "dnat+", E1, E2), flow(CLIENT, SECOND_NP, "no-op")],
        asserts=NO_MARTIANS,
        config={"nodePortAddresses": ["primary"]},
        modes=IPTABLES,
    ),
    Row(
        "NP-04 NP-05",
        "localhost is switched off",
        [full(), BOTH],
        [at_home("no-op"), *flows(CLIENT, (NP, SECOND_NP), "dnat+", E1, E2)],
        asserts=NO_MARTIANS,
        config={"localhostNodePorts": False},
        modes=IPTABLES,
    ),
    Row(
        "NP-04 NP-05",
        "localhost is listed and switched off",
        [full(), BOTH],
        [at_home("no-op"), *flows(CLIENT, (NP, SECOND_NP), "no-op")],
        asserts=NO_MARTIANS,
        config={"nodePortAddresses": ["127.0.0.0/8"], "localhostNodePorts": False},
        modes=IPTABLES,
    ),
    Row(
        "NOEP-01 NOEP-03 TERM-04 TRAF-17 CMP-05",
        "nothing usable: refused where the filter chains are",
        [full(**local(cluster_too=False)), slice_(end(E1, "n1", "gone"))],
        [
            *[f for who in (POD, CLIENT) for f in flows(who, (C, X, L, NP, SECOND_NP), "reject")],
            *flows(NODE, (C, NP, SECOND_NP), "reject"),
            *flows(NODE, (X, L), "no-op"),
        ],
        modes=IPTABLES,
    ),
    Row(
        "NOEP-03 EXT-01",
        "nothing usable: an external address of the node's own",
        [full()],
        [*flows(CLIENT, (X,), "reject"), *flows(NODE, (X,), "reject"), *flows(NODE, (L,), "no-op")],
        config={"localAddresses": [HOME, "192.168.0.2", EXT]},
        modes=IPTABLES,
    ),
    Row(
        "NOEP-03",
        "refusals of node ports are not limited to their addresses",
        [full(**local()), slice_(end(E1, "n1", "gone"))],
        [
            *flows(CLIENT, (NP, SECOND_NP), "reject"),
            flow(NODE, NP, "reject"),
            at_home("reject"),
            flow(CLIENT, f"203.0.113.99:{NODE_PORT}", "no-op"),
        ],
        (
            (
                [{"op": "replace", "object": slice_(end(E2, "n2"))}],
                [
                    *[f for who in (POD, CLIENT, NODE) for f in flows(who, (NP,), "drop")],
                    flow(CLIENT, SECOND_NP, "drop"),
                    flow(POD, SECOND_NP, "dnat", E2),
                    flow(NODE, SECOND_NP, "dnat+", E2),
                ],
            ),
        ),
        config={"nodePortAddresses": ["192.168.1.0/24"]},
        modes=IPTABLES,
    ),
    Row(
        "LB-04 CMP-08",
        "source ranges without endpoints refuse everyone alike",
        [ranged("203.0.113.0/25")],
        [flow(CLIENT, L, "reject"), flow(POD, L, "reject"), flow(NODE, L, "no-op"), flow(CLIENT, X, "reject")],
        (([{"op": "replace", "object": BOTH}], [flow(CLIENT, L, "dnat+", E1, E2), flow(POD, L, "drop")]),),
        modes=IPTABLES,
    ),
    Row(
        "LB-03 LB-04 ETP-02",
        "source ranges and no local endpoint",
        [ranged("203.0.113.0/25", "10.0.0.0/8", **local()), slice_(end(E2, "n2"))],
        [flow(CLIENT, L, "drop"), flow(POD, L, "dnat", E2), flow(NODE, L, "drop"), flow(NODE, X, "dnat+", E2)],
        modes=IPTABLES,
    ),
    Row(
        "IPT-06 CMP-09",
        "health check node port",
        [full(healthCheckNodePort=CHECK, **local())],
        [
            flow(CLIENT, f"192.168.0.2:{CHECK}", "no-op", accepted=True),
            flow(NODE, f"192.168.0.2:{CHECK}", "no-op", accepted=True),
            flow(CLIENT, f"192.168.0.2:{CHECK}/udp", "no-op", accepted=False),
            flow(CLIENT, f"192.168.0.2:{CHECK + 1}", "no-op", accepted=False),
        ],
        (
            (
                [{"op": "replace", "object": BOTH}],
                [flow(CLIENT, f"192.168.1.2:{CHECK}", "no-op", accepted=True), flow(CLIENT, NP, "dnat", E1)],
            ),
            (
                [{"op": "replace", "object": full(healthCheckNodePort=CHECK)}],
                [flow(CLIENT, f"192.168.0.2:{CHECK}", "no-op", accepted=False)],
            ),
        ),
        modes=IPTABLES,
    ),
    Row(
        "SVC-09",
        "no health check node port of its own",
        [full(healthCheckNodePort=CHECK, externalTrafficPolicy="Cluster")],
        [flow(CLIENT, f"192.168.0.2:{CHECK}", "no-op", accepted=False)],
        modes=IPTABLES,
    ),
    Row(
        "LB-01 EXT-01 TRAF-08",
        "the load balancer's address on the node itself",
        [full(**local()), slice_(end(E1, "n1"), end(E2, "n2"))],
        [
            flow(LB, L, "dnat+", E1, E2, origin="node-host"),
            flow(CLIENT, L, "dnat", E1),
            flow(POD, X, "dnat", E1, E2),
        ],
        config={"localAddresses": [HOME, "192.168.0.2", LB]},
        modes=IPTABLES,
    ),
]
