"""A failing or interrupted read of the table does not affect a sync, but is reported and tried again."""

from __future__ import annotations

import json
import logging
import socket
import struct
import time

import pytest

from engine.config import ProxyConfig
from engine.kernel.conntrack import ConntrackTable
from engine.kernel.interface import KernelError
from engine.kernel.netlink import Connection
from engine.proxier import Proxier
from harness.conformance.corpus.clusters import CIP, end, service, slice_
from harness.modes import iptables, nftables

from .test_table import ENDS, new_flow

DNS = service(ports=[("dns", "UDP", 53, 0)])


class Table:
    """Refuses on request; remembers which families it was asked about."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.flows: list[tuple[bytes, bytes]] = []
        self.refuses = False

    def remove(self, family: int, stale) -> int:
        self.asked.append(family)
        self.stale = [stale(*flow) for flow in self.flows]
        if self.refuses:
            raise KernelError("not now")
        return 2


class Refusing:
    """A kernel that applies nothing while `refuses`."""

    def __init__(self, kernel) -> None:
        self._kernel, self.refuses = kernel, False

    def apply(self, program):
        if self.refuses:
            raise KernelError("no")
        return self._kernel.apply(program)


def changed(proxier: Proxier, *addresses: str, protocol: str = "UDP") -> None:
    ports = [{"name": "dns", "port": 53, "protocol": protocol}]
    raw = json.dumps(slice_(*map(end, addresses), ports=ports)).encode()
    proxier.state.observe("MODIFIED", "endpointslices", raw)


@pytest.fixture
def table():
    return Table()


@pytest.fixture
def kernel():
    return Refusing(nftables.memory().kernel)


@pytest.fixture
def proxier(kernel, table):
    made = Proxier("nftables", ProxyConfig(), kernel, time.perf_counter, "n1", conntrack=table)
    made.state.observe("ADDED", "services", json.dumps(DNS).encode())
    return made


def test_only_changes_of_udp_ports_read_the_table(proxier, table):
    assert proxier.sync().conntrack_removed == 2 and table.asked == [4], "what is older than the Service goes"
    changed(proxier, "10.1.0.1")
    assert proxier.sync().conntrack_removed == 2 and table.asked == [4, 4]
    changed(proxier, "10.1.0.1")
    web = service(name="web", ip="172.30.0.9")
    proxier.state.observe("ADDED", "services", json.dumps(web).encode())
    assert proxier.sync().conntrack_removed == 0 and table.asked == [4, 4]


def test_a_failure_is_logged_and_the_next_sync_retries(proxier, table, caplog):
    """Whatever that change is."""
    changed(proxier, "10.1.0.1")
    table.refuses = True
    with caplog.at_level(logging.ERROR):
        assert proxier.sync().conntrack_removed == 0
    assert "Failed to remove stale UDP flows of IPv4: not now" in caplog.text
    table.refuses = False
    assert proxier.sync().conntrack_removed == 2
    assert proxier.sync().conntrack_removed == 0


def test_a_failed_sync_removes_nothing_and_the_next_does(proxier, table, kernel):
    changed(proxier, "10.1.0.1")
    kernel.refuses = True
    with pytest.raises(KernelError):
        proxier.sync()
    assert table.asked == [], "stale entries would lead to rules that are not there"
    kernel.refuses = False
    proxier.state.observe("ADDED", "services", json.dumps(service(name="web", ip="172.30.0.9")).encode())
    proxier.sync()
    assert table.asked == [4]


def test_a_simulated_nodes_further_addresses_accept_node_ports(table):
    """Where every local address does: a replay's namespace has one that no Node object names."""
    own = bytes((198, 19, 255, 1))
    kernel = iptables.memory().kernel
    proxier = Proxier(
        "iptables", ProxyConfig(), kernel, time.perf_counter, "n1", conntrack=table, flow_addresses=(own,)
    )
    port, kept, gone = (30053).to_bytes(2), *(bytes((10, 1, 0, last)) + (53).to_bytes(2) for last in (1, 2))
    table.flows = [(own + port, kept), (own + port, gone)]
    outside = json.dumps(service("NodePort", ports=[("dns", "UDP", 53, 30053)])).encode()
    proxier.state.observe("ADDED", "services", outside)
    changed(proxier, "10.1.0.1")
    proxier.sync()
    assert table.stale == [False, True]
    proxier.state.observe("DELETED", "services", outside)
    proxier.sync()
    assert table.stale == [True, True]


class Interrupted:
    """A socket pair's end that answers each dump with one flow, called interrupted but for the last."""

    def __init__(self, sock: socket.socket, dumps: int) -> None:
        self._sock, self.left = sock, dumps

    def __getattr__(self, name: str):
        return getattr(self._sock, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = self._sock.recv(size, flags)
        kind = struct.unpack_from("=H", data, 4)[0]
        if kind == 3 and self.left:  # the dump's end
            self.left -= 1
            flags = struct.unpack_from("=H", data, 6)[0] | 0x10
            return data[:6] + struct.pack("=H", flags) + data[8:]
        return data


@pytest.mark.parametrize(("interruptions", "looks"), [(0, 1), (2, 3), (99, 5)])
def test_an_interrupted_dump_is_read_again_a_bounded_number_of_times(namespace, interruptions, looks):
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as filler:
        Connection(filler).require([new_flow(4, 17, 1000, ENDS[4][0])])
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        seen = []
        table = ConntrackTable(Interrupted(sock, interruptions))
        assert table.remove(4, lambda destination, replier: bool(seen.append(destination))) == 0
        assert len(seen) == looks


def test_stale_flows_of_an_interrupted_dump_are_deleted(namespace):
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as filler:
        Connection(filler).require([new_flow(4, 17, 1000 + n, ENDS[4][0]) for n in range(9)])
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        assert ConntrackTable(Interrupted(sock, 1)).remove(4, lambda *_: True) == 9


def test_flows_are_matched_by_the_service_address(proxier, table):
    """Flows are distinguished by address, port and answering endpoint."""
    judges = []
    table.remove = lambda family, stale: judges.append(stale) or 0
    changed(proxier, "10.1.0.1")
    proxier.sync()
    (stale,) = judges
    to, port = socket.inet_aton(CIP), (53).to_bytes(2, "big")
    assert stale(to + port, socket.inet_aton("10.1.0.9") + port)
    assert not stale(to + port, socket.inet_aton("10.1.0.1") + port)
