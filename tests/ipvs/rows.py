"""Rules of the specification in mode ipvs, each a small cluster and what becomes of packets."""

from __future__ import annotations

from ..cases.clusters import CIP, CLIENT, E1, E2, E3, EXT, LB, NODE, POD, end, flow, service, slice_
from ..cases.row import ALL, BOTH, NP, OUTSIDE, C, L, Row, X, flows, full, local

SECOND = "192.168.1.2"
RANGES = {"loadBalancerSourceRanges": ["198.51.100.0/24", "192.168.0.0/24"]}
NEAR = "198.51.100.9"
UDP_SCTP = [("dns", "UDP", 53, 30053), ("sig", "SCTP", 53, 30054)]
ENDS_53 = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "sig", "port": 53, "protocol": "SCTP"}]
EXTRA_LOCAL = {"externalIPs": [SECOND]}


def sets(**entries: list[str]) -> dict:
    """Entries of sets by name, `_` for `-`; others may hold anything."""
    return {"ipsets": {f"KUBE-{name.replace('_', '-')}": found for name, found in entries.items()}}


ROWS = [
    Row("IPVS-06 IPVS-12 IPVS-13 IPVS-14 EXT-02", "cluster policy: masqueraded but from pods to the cluster IP",
        [full(), BOTH],
        [flow(POD, C, "dnat", E1, E2), *flows(POD, OUTSIDE, "dnat+", E1, E2),
         *flows(CLIENT, ALL, "dnat+", E1, E2), *flows(NODE, ALL, "dnat+", E1, E2)],
        asserts={"virtual_servers": {f"{CIP}:80/TCP": [f"{E1}:80", f"{E2}:80"]}}),
    Row("ETP-07 IPVS-13 IPVS-14 EXT-02 CMP-07", "local policy: local endpoints for every source, never masqueraded",
        [full(**local()), BOTH],
        [flow(POD, C, "dnat", E1, E2), *flows(POD, OUTSIDE, "dnat", E1), *flows(CLIENT, OUTSIDE, "dnat", E1),
         *flows(NODE, OUTSIDE, "dnat", E1)]),
    Row("ETP-06 CMP-06", "local policies without a local endpoint fall back to the cluster's",
        [full(**local(cluster_too=False)), slice_(end(E2, "n2"))],
        [*flows(CLIENT, OUTSIDE, "dnat", E2), flow(CLIENT, C, "dnat+", E2), *flows(POD, ALL, "dnat", E2)]),
    Row("ETP-06", "where only local traffic is known there is nothing to fall back to",
        [service(internalTrafficPolicy="Local"), slice_(end(E2, "n2"))],
        [flow(POD, C, "reject"), flow(CLIENT, C, "reject")]),
    Row("NOEP-05 IPVS-06 CMP-05", "no endpoint at all: an empty virtual server refuses",
        [full(), slice_()],
        [*flows(POD, ALL, "reject"), *flows(CLIENT, ALL, "reject")],
        asserts={"virtual_servers": {f"{CIP}:80/TCP": [], f"{LB}:80/TCP": [], NP + "/TCP": []}}),
    Row("HAIR-02 CMP-17", "an endpoint that talks to itself is masqueraded if it is here, even one that is not ready",
        [service(), slice_(end(E1, "n1"), end(E3, "n1", ready=False))],
        [flow(E1, C, "dnat+", E1), flow(POD, C, "dnat", E1)],
        asserts=sets(LOOP_BACK=[f"{E1},tcp:80,{E1}", f"{E3},tcp:80,{E3}"])),
    Row("HAIR-02 CMP-17", "one on another node is not", [service(), slice_(end(E2, "n2"))], [flow(E2, C, "dnat", E2)]),
    Row("LB-05 CMP-08", "source ranges hold for load balancer addresses alone",
        [full(**RANGES), BOTH],
        [flow(CLIENT, L, "drop"), flow(POD, L, "drop"), *flows(CLIENT, (NP, X, C), "dnat+", E1, E2),
         flow(NEAR, L, "dnat+", E1, E2, origin="external")]),
    Row("LB-05", "a node in no range may not come from the load balancer's own address",
        [full(loadBalancerSourceRanges=["198.51.100.0/24"]), BOTH],
        [flow(LB, L, "drop", origin="node-host"), flow(NODE, L, "dnat+", E1, E2),
         flow(NEAR, L, "dnat+", E1, E2, origin="external")]),
    Row("LB-05 CMP-08", "out of range is dropped whether or not there are endpoints",
        [full(**RANGES), slice_()],
        [flow(CLIENT, L, "drop"), flow(NEAR, L, "reject", origin="external")]),
    Row("IPVS-20 CIP-03 CMP-03 CMP-04 CMP-16", "another port of a cluster IP is refused, nobody's address left alone",
        [service(), BOTH],
        [flow(POD, f"{CIP}:81", "reject"), flow(CLIENT, f"{CIP}:80/udp", "reject"), flow(NODE, f"{CIP}:81", "reject"),
         flow(CLIENT, "172.30.9.9:80", "no-op")],
        asserts=sets(IPVS_IPS=[CIP], CLUSTER_IP=[f"{CIP},tcp:80"])),
    Row("NP-07 CMP-01 CMP-02", "node ports on every address of the node but loopback",
        [service("NodePort"), BOTH],
        [flow(CLIENT, NP, "dnat+", E1, E2), flow(CLIENT, f"{SECOND}:30001", "dnat+", E1, E2),
         flow(NODE, "127.0.0.1:30001", "no-op"), flow("127.0.0.1", "127.0.0.1:30001", "no-op", origin="node-host")]),
    Row("NP-07", "nodePortAddresses chooses among them",
        [service("NodePort"), BOTH],
        [flow(CLIENT, NP, "no-op"), flow(CLIENT, f"{SECOND}:30001", "dnat+", E1, E2)],
        config={"nodePortAddresses": ["192.168.1.0/24"]}),
    Row("NP-07", "no address matches: no node port, the rest of the port stays",
        [service("NodePort"), BOTH],
        [flow(CLIENT, NP, "no-op"), flow(CLIENT, C, "dnat+", E1, E2)],
        config={"nodePortAddresses": ["9.0.0.0/8"]}),
    Row("IPVS-10 IPVS-11 IPVS-13", "node ports of UDP by port, of SCTP by address",
        [service("NodePort", ports=UDP_SCTP), slice_(end(E1, "n1"), ports=ENDS_53)],
        [flow(CLIENT, f"{NODE}:30053/udp", "dnat+", f"{E1}:53"),
         flow(CLIENT, f"{NODE}:30054/sctp", "dnat+", f"{E1}:53"), flow(POD, f"{CIP}:53/sctp", "dnat", f"{E1}:53")],
        asserts=sets(NODE_PORT_UDP=["30053"],
                     NODE_PORT_SCTP_HASH=[f"{NODE},sctp:30054", f"{SECOND},sctp:30054"])),
    Row("IPVS-11 IPVS-13", "of policy Local they are in a second set too",
        [service("NodePort", ports=UDP_SCTP, **local()), slice_(end(E1, "n1"), ports=ENDS_53)],
        [flow(CLIENT, f"{NODE}:30053/udp", "dnat", f"{E1}:53"), flow(CLIENT, f"{NODE}:30054/sctp", "dnat", f"{E1}:53")],
        asserts=sets(NODE_PORT_UDP=["30053"], NODE_PORT_LOCAL_UDP=["30053"])),
    Row("IPVS-10 IPVS-15 CMP-09", "a health check's node port is let in",
        [full(healthCheckNodePort=32000, **local()), BOTH],
        [flow(CLIENT, f"{NODE}:32000", "no-op")],
        asserts=sets(HEALTH_CHECK_NODE_PORT=["32000"], EXTERNAL_IP_LOCAL=[f"{EXT},tcp:80"],
                     LOAD_BALANCER=[f"{LB},tcp:80"], LOAD_BALANCER_LOCAL=[f"{LB},tcp:80"], EXTERNAL_IP=[],
                     NODE_PORT_TCP=["30001"], NODE_PORT_LOCAL_TCP=["30001"], IPVS_IPS=[LB, CIP, EXT])),
    Row("IPVS-01", "an external address that the node has already is not bound again",
        [service(**EXTRA_LOCAL), BOTH],
        [flow(CLIENT, f"{SECOND}:80", "dnat+", E1, E2)],
        asserts=sets(IPVS_IPS=[CIP], EXTERNAL_IP=[f"{SECOND},tcp:80"])),
    Row("IPVS-06 IPVS-21", "what is gone is gone from servers, sets and device",
        [full(), BOTH],
        [flow(CLIENT, L, "dnat+", E1, E2)],
        then=(([{"op": "replace", "object": service()}],
               [flow(CLIENT, C, "dnat+", E1, E2), flow(CLIENT, L, "no-op"), flow(CLIENT, NP, "no-op")]),)),
    Row("CIP-04", "masqueradeAll", [service(), BOTH], [flow(POD, C, "dnat+", E1, E2)], config={"masqueradeAll": True}),
    Row("CIP-04", "nothing tells pods: only a node that took the Service's address as source is masqueraded",
        [service(), BOTH],
        [flow(POD, C, "dnat", E1, E2), flow(CLIENT, C, "dnat", E1, E2),
         flow(CIP, C, "dnat+", E1, E2, origin="node-host")],
        config={"clusterCIDR": ""}),
]  # fmt: skip
