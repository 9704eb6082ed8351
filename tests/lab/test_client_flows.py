"""Flows of real clients: their node, and their entries in connection tracking."""

from __future__ import annotations

import json
import sys
import time
from functools import partial

import pytest

from harness.lab.answers import FlowQuery
from harness.lab.dataplane.flows import tuple_of
from harness.lab.topology import BALANCER_ADDRESS, CLIENT_ADDRESS
from tests.waiting import until as eventually

pytestmark = pytest.mark.xdist_group("lab")


TRIES = """
import socket, time
tries = [socket.socket() for _ in range(40)]
for one in tries:
    one.setblocking(False)
    one.connect_ex(("198.51.100.11", 80))
time.sleep(1.3)  # longer than the second after which the kernel sends a SYN again
"""
SEEN = """table ip seen {
  set ports { type inet_service; size 64; flags dynamic; }
  chain syns { type filter hook prerouting priority -300;
    ip daddr 198.51.100.11 tcp flags syn add @ports { tcp sport } drop
  }
}
"""


def test_the_load_balancer_sends_a_retransmission_to_the_same_node(cluster):
    """An address of the test's own, whose route does not follow the engines' health meanwhile."""
    nodes = ("node-1", "node-2")
    hops = [word for n in cluster.status().nodes for word in ("nexthop", "via", n.address)]
    try:
        assert cluster.run(None, ["ip", "route", "add", "198.51.100.11/32", *hops]).returncode == 0
        assert not [n for n in nodes if cluster.run(n, ["nft", "-f", "-"], SEEN.encode()).returncode]
        assert cluster.run("client", ["python3", "-c", TRIES]).returncode == 0
        listed = [json.loads(cluster.run(n, ["nft", "-j", "list set ip seen ports"]).stdout) for n in nodes]
    finally:
        cluster.run(None, ["ip", "route", "del", "198.51.100.11/32"])
        for node in nodes:
            cluster.run(node, ["nft", "delete table ip seen"])
    one, other = (
        {port for item in reported["nftables"] for port in item.get("set", {}).get("elem", ())} for reported in listed
    )
    assert one and other and not one & other and len(one | other) == 40


ASKS = r"""
import socket, time
since = time.monotonic_ns()
with socket.create_connection(("198.51.100.10", 80), 5, ("0.0.0.0", 1024)) as one:
    one.sendall(b"GET / HTTP/1.0\r\n\r\n")
    while one.recv(4096): pass
print(since)
"""


def test_an_ended_connection_is_not_mistaken_for_a_new_one_from_its_port(cluster):
    done = cluster.run("client", ["python3", "-c", ASKS])
    assert not done.returncode, done.stderr.decode()
    since_ns = int(done.stdout)
    flow = partial(FlowQuery, "tcp", CLIENT_ADDRESS, 1024, BALANCER_ADDRESS, 80)
    eventually(lambda: cluster.flows_lookup([flow(since_ns=since_ns)])[0])
    assert cluster.flows_lookup([flow(since_ns=time.monotonic_ns())]) == [None]


SENDS = """
import socket, time
since = time.monotonic_ns()
with socket.socket(type=socket.SOCK_DGRAM) as one:
    one.settimeout(5)
    one.bind(("0.0.0.0", 1025))
    one.sendto(b"?", ("10.10.0.11", 30082))
    one.recv(4096)
print(since)
"""
REMOVES = """
import socket, sys
from engine.kernel.netlink import NETFILTER, Connection
from harness.lab.dataplane.ctnetlink import DELETE, message
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
Connection(sock).require([message(DELETE, 0, bytes.fromhex(sys.argv[1]))])
"""


def test_a_datagram_of_an_older_flow_is_recognised_after_its_removal(cluster):
    def sent() -> FlowQuery:
        done = cluster.run("client", ["python3", "-c", SENDS])
        assert not done.returncode, done.stderr.decode()
        return FlowQuery("udp", CLIENT_ADDRESS, 1025, "10.10.0.11", 30082, "node-1", since_ns=int(done.stdout))

    first = sent()
    eventually(lambda: cluster.flows_lookup([first])[0])  # its notification counts from when it is received
    flow = sent()
    (found,) = cluster.flows_lookup([flow])
    assert found.older and found.pod
    done = cluster.run("node-1", [sys.executable, "-c", REMOVES, tuple_of(flow).hex()])
    assert not done.returncode, done.stderr.decode()
    eventually(lambda: cluster.flows_lookup([flow]) == [found])
