"""The fate of long-lived flows when endpoints are removed, shared by all modes."""

from __future__ import annotations

from harness.conformance.corpus.clusters import CIP, CLIENT, EXT, NODE, POD, end, service, slice_
from harness.places.wire import SCTP, TCP, UDP

from .clients import ENDS, Clients

PORT = 40_000
DNS, OTHER_IP = (CIP, 53), "172.30.0.42"
STRANGER = "10.180.0.6"
"""An address reachable from pods that belongs to no Service."""
PORTS = [("dns", "UDP", 53, 30053), ("dns-tcp", "TCP", 53, 30054), ("sig", "SCTP", 53, 30055)]
SLICE_PORTS = [{"name": name, "port": 53, "protocol": protocol} for name, protocol, _, _ in PORTS]
DNS_SERVICE = service("NodePort", name="dns", ports=PORTS, externalIPs=[EXT])
OTHER_SERVICE = service("ClusterIP", name="other", ip=OTHER_IP, ports=[("dns", "UDP", 53, 0)])


def dns(*addresses: str) -> dict:
    """The slice of Service `dns`."""
    return slice_(*(end(a, "n1") for a in addresses), name="dns-a", of="dns", ports=SLICE_PORTS)


def other(*addresses: str) -> dict:
    """The slice of Service `other`."""
    return slice_(*(end(a, "n1") for a in addresses), name="other-a", of="other", ports=SLICE_PORTS[:1])


def a_client_leaves_an_endpoint_that_is_gone(them: Clients, counted: bool = True) -> None:
    """CT-08: by cluster IP, external IP and node port; others keep what they have.

    Not `counted` where the kernel itself may be first: IP_VS drops the flows of a destination that goes, and
    keeps one of TCP until its connections have ended (IPVS-08).
    """
    assert them.put(DNS_SERVICE, dns(*ENDS[:2]), OTHER_SERVICE, other(*ENDS[4:6])).conntrack_removed == 0
    ways = [((POD, PORT), DNS), ((CLIENT, PORT), (EXT, 53)), ((CLIENT, PORT + 1), (NODE, 30053))]
    before = [them.ask(*way, UDP) for way in ways]
    assert before == [them.ask(*way, UDP) for way in ways], "a flow stays where it is"
    kept = [((POD, PORT), DNS, TCP), ((POD, PORT), DNS, SCTP), ((POD, PORT), (OTHER_IP, 53), UDP)]
    kept_before = [them.ask(*each) for each in kept]
    assert all(before) and all(kept_before)

    sync = them.put(dns(ENDS[2], ENDS[3]))
    assert sync.conntrack_seconds > 0
    assert sync.conntrack_removed == len(ways) or not counted
    after = [them.ask(*way, UDP) for way in ways]
    assert all(end in (f"{ENDS[2]}:53", f"{ENDS[3]}:53") for end in after), after
    left = {(protocol, target, port) for protocol, target, port in them.flows()}
    if counted:
        assert {("tcp", f"{CIP}:53", PORT), ("sctp", f"{CIP}:53", PORT)} <= left, "TCP and SCTP are left alone"
    assert them.ask(*kept[2]) == kept_before[2], "another Service's flow stays where it is"
    assert them.put(dns(ENDS[2], ENDS[3])).conntrack_removed == 0, "nothing changed, nothing is looked at"


def a_flow_older_than_its_service_is_translated_at_last(them: Clients) -> None:
    """CT-04: what went untranslated to a node port before there was one."""
    them.put(OTHER_SERVICE, other(ENDS[4]))
    early = (CLIENT, PORT + 2), (NODE, 30053)
    assert them.ask(*early, UDP) == f"{NODE}:30053", "the node itself got it"
    assert them.put(DNS_SERVICE, dns(ENDS[0])).conntrack_removed == 1
    assert them.ask(*early, UDP) == f"{ENDS[0]}:53"


def an_endpoint_that_drains_keeps_its_flows(them: Clients) -> None:
    """CT-04: as long as it serves; a port that nobody serves keeps none."""
    them.put(DNS_SERVICE, dns(ENDS[0]))
    assert them.ask((POD, PORT + 3), DNS, UDP) == f"{ENDS[0]}:53"
    ends = slice_(end(ENDS[0], "n1", "draining"), end(ENDS[1], "n1"), name="dns-a", of="dns", ports=SLICE_PORTS)
    assert them.put(ends).conntrack_removed == 0
    assert them.ask((POD, PORT + 3), DNS, UDP) == f"{ENDS[0]}:53"
    assert them.ask((POD, PORT + 4), DNS, UDP) == f"{ENDS[1]}:53", "a new one goes where it is ready"
    assert them.put(dns()).conntrack_removed == 2
    assert not [flow for flow in them.flows() if flow[:2] == ("udp", f"{CIP}:53")]
    them.put(dns(ENDS[1]))
    assert them.ask((POD, PORT + 3), DNS, UDP) == f"{ENDS[1]}:53"


def flows_go_with_what_they_went_to(them: Clients) -> None:
    """CT-04b, CT-04c, and more: an endpoint, a Service, a port, a policy; by cluster IP and by node port."""
    bare = slice_(name="dns-a", of="dns", ports=SLICE_PORTS)
    unready = slice_(end(ENDS[0], "n1", ready=False), name="dns-a", of="dns", ports=SLICE_PORTS)
    moved = {**DNS_SERVICE, "spec": DNS_SERVICE["spec"] | {"ports": [
        {"name": "dns", "protocol": "UDP", "port": 5353, "nodePort": 30056}]}}  # fmt: skip
    elsewhere = slice_(end(ENDS[0], "n2"), name="dns-a", of="dns", ports=SLICE_PORTS)
    local = {**DNS_SERVICE, "spec": DNS_SERVICE["spec"] | {"internalTrafficPolicy": "Local"}}
    changes = {
        "zero": lambda: them.put(bare),
        "slice": lambda: them.delete(bare),
        "unready": lambda: them.put(unready),
        "service": lambda: them.delete(DNS_SERVICE),
        "port": lambda: them.put(moved),
        "policy": lambda: them.put(local),
    }
    them.put(OTHER_SERVICE, other(ENDS[4]))
    stranger = (POD, PORT + 9), (STRANGER, 30053)
    kept = (POD, PORT + 8), (OTHER_IP, 53)
    assert them.ask(*kept, UDP) == f"{ENDS[4]}:53"
    for number, (what, change) in enumerate(changes.items()):
        them.put(DNS_SERVICE, elsewhere)
        port = PORT + 10 + number
        ways = [((POD, port), DNS), ((CLIENT, port), (NODE, 30053))]
        assert [them.ask(*way, UDP) for way in ways] == [f"{ENDS[0]}:53"] * 2, what
        them.ask(*stranger, UDP)
        before = {flow for flow in them.flows() if flow[2] in (PORT + 8, PORT + 9)}
        assert len(before) == 2
        assert change().conntrack_removed == (1 if what == "policy" else 2), what
        left = {flow for flow in them.flows() if flow[2] == port}
        assert left == ({("udp", f"{NODE}:30053", port)} if what == "policy" else set()), what
        assert {flow for flow in them.flows() if flow[2] in (PORT + 8, PORT + 9)} == before, "strangers' flows stay"


STORIES = (
    a_client_leaves_an_endpoint_that_is_gone,
    a_flow_older_than_its_service_is_translated_at_last,
    an_endpoint_that_drains_keeps_its_flows,
    flows_go_with_what_they_went_to,
)
