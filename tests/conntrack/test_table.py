"""The kernel's conntrack table: which flows are deleted, which stay, and which have already gone."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest

from engine.kernel.conntrack import ConntrackTable
from engine.kernel.interface import KernelError
from engine.kernel.netlink import CREATE, NETFILTER, Connection, attribute, nfnetlink

SERVICE = {4: "10.96.0.10", 6: "fd00:96::a"}
ENDS = {4: ("10.180.0.1", "10.180.0.2"), 6: ("fd00:10::1", "fd00:10::2")}
TCP, UDP = 6, 17
DNS = struct.pack("!H", 53)
FLOWS = 3_000


@pytest.fixture
def sockets(namespace):
    """Netlink sockets of the namespace, as many as asked for."""
    made = []

    def make() -> socket.socket:
        made.append(namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER))
        return made[-1]

    yield make
    for each in made:
        each.close()


def new_flow(family: int, protocol: int, client_port: int, end: str, zone: int = 0) -> bytes:
    """Creates a flow from a client's port to the Service, answered by `end`."""
    client, port = ip_address("192.168.9.9" if family == 4 else "fd00:99::9").packed, struct.pack("!H", client_port)
    there = _tuple(family, 1, protocol, client, port, ip_address(SERVICE[family]).packed)
    back = _tuple(family, 2, protocol, ip_address(end).packed, DNS, client, port)
    payload = there + back + attribute(7, struct.pack("!I", 600))
    payload += attribute(0x8004, attribute(0x8001, attribute(1, b"\3"))) if protocol == TCP else b""
    payload += attribute(18, struct.pack("!H", zone)) if zone else b""
    af = socket.AF_INET if family == 4 else socket.AF_INET6
    return nfnetlink(0x100, CREATE, af, payload)


def _tuple(family, kind, protocol, source, source_port, destination, port=DNS) -> bytes:
    first = 1 if family == 4 else 3
    addresses = attribute(first, source) + attribute(first + 1, destination)
    ports = attribute(1, bytes([protocol])) + attribute(2, source_port) + attribute(3, port)
    return attribute(0x8000 | kind, attribute(0x8001, addresses) + attribute(0x8002, ports))


def count(namespace) -> int:
    return namespace.run(["cat", "/proc/net/nf_conntrack"]).stdout.count(b"\n")


def answered_by(end: str):
    return lambda destination, replier: replier == ip_address(end).packed + DNS


@pytest.mark.parametrize("family", [4, 6])
def test_only_stale_udp_flows_of_the_family_are_deleted(namespace, sockets, family):
    stays, goes = ENDS[family]
    made = [new_flow(family, UDP, 1000 + n, goes if n % 3 == 0 else stays) for n in range(FLOWS)]
    made += [new_flow(family, TCP, 1000 + n, goes) for n in range(10)]
    made += [new_flow(10 - family, UDP, 1000 + n, ENDS[10 - family][1]) for n in range(10)]
    Connection(sockets()).require(made)
    table, seen = ConntrackTable(sockets()), set()
    assert table.remove(family, lambda destination, replier: bool(seen.add(destination))) == 0
    assert seen == {ip_address(SERVICE[family]).packed + DNS}
    assert table.remove(family, answered_by(goes)) == FLOWS // 3
    assert count(namespace) == FLOWS - FLOWS // 3 + 20
    assert table.remove(family, answered_by(goes)) == 0


def test_a_flow_in_a_conntrack_zone_is_deleted(namespace, sockets):
    same_place = [new_flow(4, UDP, 1000, ENDS[4][0]), new_flow(4, UDP, 1000, ENDS[4][1], zone=7)]
    Connection(sockets()).require(same_place)
    assert ConntrackTable(sockets()).remove(4, answered_by(ENDS[4][1])) == 1
    left = namespace.run(["cat", "/proc/net/nf_conntrack"]).stdout.decode()
    assert f"src={ENDS[4][0]}" in left and "zone=7" not in left


def test_flows_that_have_gone_are_no_error(namespace, sockets):
    Connection(sockets()).require([new_flow(4, UDP, 1000 + n, ENDS[4][1]) for n in range(5)])
    first, second = ConntrackTable(sockets()), ConntrackTable(sockets())
    taken = []

    def stale(destination: bytes, replier: bytes) -> bool:
        if not taken:
            taken.append(second.remove(4, lambda *_: True))
        return True

    assert first.remove(4, stale) == 0
    assert taken == [5] and count(namespace) == 0


def test_a_kernel_that_refuses_is_an_error(namespace):
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        table = ConntrackTable(sock)
    with pytest.raises(KernelError, match="cannot read or change conntrack: .*descriptor"):
        table.remove(4, lambda *_: True)
