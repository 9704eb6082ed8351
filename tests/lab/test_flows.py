"""To which flow of a port a lost request belonged, by the times of notifications."""

from __future__ import annotations

import socket
import struct

import pytest

from engine.kernel.netlink import attribute, nested
from harness.lab.answers import FlowQuery
from harness.lab.dataplane.flows import NodeFlows, RecentFlows, tuple_of

FLOW = b"original".ljust(52)


def reply(address: str) -> bytes:
    """The reply's tuple of a flow that such an endpoint answers."""
    made = bytearray(52)
    made[12:16], made[40:42] = socket.inet_aton(address), struct.pack("!H", 9091)
    return bytes(made)


def announced(begun=(), removed=(), table: bytes = b"", flow: bytes = FLOW) -> NodeFlows:
    """A node whose kernel has said this of one flow, (endpoint, when), and answers that when it is asked."""
    flows = NodeFlows.__new__(NodeFlows)
    flows._begun, flows._removed, flows._ask = RecentFlows(), RecentFlows(), lambda original: table
    for recent, moments in ((flows._begun, begun), (flows._removed, removed)):
        for address, notified_ns in moments:
            recent.add(flow, reply(address), notified_ns)
    return flows


@pytest.mark.parametrize(
    ("since", "until", "endpoint"),
    [
        (None, 250, "10.120.3.10"),
        (None, 450, "10.120.2.10"),
        (None, 150, "10.120.3.10"),
        (None, None, "10.120.2.10"),
        (300, 350, "10.120.2.10"),
        (500, 600, None),
    ],
)
def test_a_reused_client_port_is_queried_until_the_loss(since, until, endpoint):
    """Its flow began at 200, was removed, and began again at 400, to somebody else."""
    flows = announced(begun=[("10.120.3.10", 200), ("10.120.2.10", 400)])
    assert flows.find(FLOW, since, until) == (endpoint and (endpoint, 9091, False))


@pytest.mark.parametrize(("state", "found"), [(1, True), (3, True), (7, False), (8, False), (None, True)])
def test_a_connection_is_attributed_to_an_older_one_unless_that_has_ended(state, found):
    """By the state that connection tracking has for the port: SYN_SENT, ESTABLISHED, TIME_WAIT, CLOSE, none of UDP."""
    tcp = b"" if state is None else nested(4, nested(1, attribute(1, bytes([state]))))
    flows = announced(begun=[("10.120.3.10", 200)], table=reply("10.120.3.10") + attribute(3, bytes(4)) + tcp)
    assert flows.find(FLOW, 300, 400) == (("10.120.3.10", 9091, True) if found else None)


@pytest.mark.parametrize(
    ("protocol", "removed", "found"), [("udp", 350, True), ("udp", 250, False), ("tcp", 350, False)]
)
def test_a_request_of_an_older_udp_flow_is_recognised_after_its_removal(protocol, removed, found):
    """The proxy removes flows to a removed endpoint, after the request was lost and before the query."""
    flow = FlowQuery(protocol, "10.120.1.2", 1025, "10.112.0.10", 82)
    flows = announced(removed=[("10.120.3.10", removed)], flow=tuple_of(flow))
    assert flows.find(tuple_of(flow), 300, 400) == (("10.120.3.10", 9091, True) if found else None)
