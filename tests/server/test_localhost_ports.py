"""Node ports on loopback in mode nftables: the daemon's own listeners, and what the kernel rejects (NP-11, NP-12)."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.server.runtime.localhost_ports import LocalhostPorts, Served
from harness.conformance.corpus.clusters import end, node, service, slice_
from tests.server.lab import METRICS, eventually

GATE = {"KubeProxyNFTablesLocalhostNodePorts": True}
POD = "10.180.0.1"


@contextmanager
def endpoint(name: bytes, host: str = "127.0.0.1") -> Iterator[bytes]:
    """A TCP server on loopback that says its name, then echoes; as a target."""
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.sendall(name)
                while chunk := client.recv(1024):
                    client.sendall(chunk)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield ipaddress.ip_address(host).packed + listener.getsockname()[1].to_bytes(2, "big")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.getsockname()[1]


def name_at(port: int, host: str = "127.0.0.1") -> bytes:
    with socket.create_connection((host, port), timeout=60) as client:
        return client.recv(1)


@pytest.mark.parametrize(("family", "host"), [(4, "127.0.0.1"), (6, "::1")])
def test_clients_reach_every_endpoint_and_bytes_go_both_ways(family, host):
    ports, number = LocalhostPorts(family), free_port(host)
    with endpoint(b"a", host) as a, endpoint(b"b", host) as b:
        assert ports.sync({number: Served(frozenset((a, b)), 0)}) == 0
        assert {name_at(number, host) for _ in range(64)} == {b"a", b"b"}, "one of two by chance missed: 1 in 2^63"
        with socket.create_connection((host, number), timeout=60) as client:
            client.recv(1)
            client.sendall(b"x" * 100_000)
            client.shutdown(socket.SHUT_WR)
            got = bytearray()
            while chunk := client.recv(1 << 16):
                got += chunk
            assert got == b"x" * 100_000
        ports.sync({})


def test_affinity_pins_one_endpoint_while_clients_keep_coming():
    now = [0.0]
    ports, number = LocalhostPorts(4, lambda: now[0]), free_port()
    with endpoint(b"a") as a, endpoint(b"b") as b:
        ports.sync({number: Served(frozenset((a, b)), 60)})
        names = set()
        for now[0] in range(0, 600, 50):
            names.add(name_at(number))
        assert len(names) == 1, "a sliding timeout"
        remaining = b if names == {b"a"} else a
        ports.sync({number: Served(frozenset((remaining,)), 60)})
        assert name_at(number) not in names, "its endpoint has gone"
        ports.sync({})


def test_without_endpoints_listener_and_connections_end():
    ports, number = LocalhostPorts(4), free_port()
    with endpoint(b"a") as a:
        ports.sync({number: Served(frozenset((a,)), 0)})
        with socket.create_connection(("127.0.0.1", number), timeout=60) as client:
            client.recv(1)
            ports.sync({})
            assert client.recv(1) == b""
        assert ports.listeners == 0
        with pytest.raises(ConnectionRefusedError):
            name_at(number)


def test_a_port_that_is_taken_is_tried_again_at_the_next_sync():
    ports = LocalhostPorts(4)
    with endpoint(b"a") as a:
        with socket.create_server(("127.0.0.1", 0)) as other:
            number = other.getsockname()[1]
            assert ports.sync({number: Served(frozenset((a,)), 0)}) == 1
        assert ports.sync({number: Served(frozenset((a,)), 0)}) == 0
        assert name_at(number) == b"a"
        ports.sync({})


def test_on_a_node(lab):
    """Listened on while there are endpoints, other protocols rejected and counted; without the gate left alone."""
    ports = [("http", "TCP", 80, 30001), ("dns", "UDP", 53, 30053)]
    both = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    objects = [node(), service("NodePort", ports=ports), slice_(end(POD, "n1"), ports=both)]
    lab.record(objects, [("MODIFIED", slice_(ports=both))])
    lab.serve()
    lab.daemon(nodePortAddresses=["primary", "localhost"], featureGates=GATE).says("full=true")
    listeners = 'kubeproxy_nftables_localhost_nodeport_listeners{ip_family="IPv4"}'
    eventually(lambda: lab.http(METRICS, "/healthz"), "metrics")
    assert lab.metrics()[listeners] == 1
    with lab.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", 30053))
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)
    rejected = 'kubeproxy_nftables_localhost_nodeport_rejected_packets_total{ip_family="IPv4",protocol="udp"}'
    assert lab.metrics()[rejected] == 1
    assert not any("rejected_packets" in name and "tcp" in name and "IPv4" in name for name in lab.metrics())
    lab.step()
    eventually(lambda: lab.metrics()[listeners] == 0, "the listener's end")
