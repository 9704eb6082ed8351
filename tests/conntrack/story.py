"""What happens to long-lived flows when endpoints leave, told once and played in every mode."""

from __future__ import annotations

from harness.packets.wire import SCTP, TCP, UDP

from ..cases.clusters import CIP, CLIENT, EXT, NODE, POD, end, service, slice_
from .clients import ENDS, Clients

PORT = 40_000
DNS, OTHER_IP = (CIP, 53), "172.30.0.42"
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
    """CT-04: policy and readiness are not looked at, only whether it serves."""
    them.put(DNS_SERVICE, dns(ENDS[0]))
    assert them.ask((POD, PORT + 3), DNS, UDP) == f"{ENDS[0]}:53"
    ends = slice_(end(ENDS[0], "n1", "draining"), end(ENDS[1], "n1"), name="dns-a", of="dns", ports=SLICE_PORTS)
    assert them.put(ends).conntrack_removed == 0
    assert them.ask((POD, PORT + 3), DNS, UDP) == f"{ENDS[0]}:53"
    assert them.ask((POD, PORT + 4), DNS, UDP) == f"{ENDS[1]}:53", "a new one goes where it is ready"
    them.put(dns())
    assert ("udp", f"{CIP}:53", PORT + 3) in them.flows(), "a port that nobody serves is left alone"
    assert them.put(dns(ENDS[1])).conntrack_removed == 1
    assert them.ask((POD, PORT + 3), DNS, UDP) == f"{ENDS[1]}:53"


STORIES = (
    a_client_leaves_an_endpoint_that_is_gone,
    a_flow_older_than_its_service_is_translated_at_last,
    an_endpoint_that_drains_keeps_its_flows,
)
