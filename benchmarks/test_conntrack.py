"""Checking a large conntrack table for stale flows, relative to the bare dump of the same flows."""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import IPv4Address

import pytest

from engine.kernel.conntrack import ConntrackTable
from engine.kernel.netlink import CREATE, NETFILTER, Connection, attribute, nfnetlink
from harness.places.namespace import Namespace

FLOWS, STALE_EVERY, ROUNDS = 100_000, 100, 5
_NEW, _GET = 0x100, 0x101
_REQUEST_CREATE, _REQUEST_DUMP = 0x401, 0x301
SERVICE, ENDPOINT, GONE = (IPv4Address(text).packed for text in ("10.96.0.10", "10.180.0.1", "10.180.0.2"))
PORT = struct.pack("!H", 53)


@pytest.mark.timeout(300)
def test_looking_through_100000_flows(benchmark, figure):
    """Every flow is checked, one in a hundred is stale and deleted; best of several runs of each side."""
    with Namespace() as namespace, namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        fill = Connection(namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER))
        table = ConntrackTable(sock)
        flows = [_new(n, ENDPOINT if n % STALE_EVERY else GONE) for n in range(FLOWS)]
        fill.require(flows)
        bare = min(_bare(namespace) for _ in range(ROUNDS))

        def look() -> None:
            assert table.remove(4, lambda destination, replier: replier == GONE + PORT) == FLOWS // STALE_EVERY

        benchmark.pedantic(look, setup=lambda: fill.require(flows[::STALE_EVERY]) and None, rounds=ROUNDS)
    ours = benchmark.stats.stats.min
    figure("stale flows among 100,000", f"{ours * 1e3:.0f} ms", "", f"bare dump {bare * 1e3:.0f} ms")
    figure("  against the bare dump", f"{ours / bare:.2f} x", "<= 3 x")


def _new(number: int, answers: bytes) -> bytes:
    """A flow from a distinct client to the Service."""
    client, port = struct.pack("!I", 0xC0A80000 + number), struct.pack("!H", 40_000)
    tuples = _tuple(1, client, port, SERVICE, PORT) + _tuple(2, answers, PORT, client, port)
    payload = tuples + attribute(7, struct.pack("!I", 600))
    return nfnetlink(_NEW, CREATE, socket.AF_INET, payload)


def _tuple(kind: int, source: bytes, source_port: bytes, destination: bytes, port: bytes) -> bytes:
    addresses = attribute(1, source) + attribute(2, destination)
    ports = attribute(1, b"\x11") + attribute(2, source_port) + attribute(3, port)
    return attribute(0x8000 | kind, attribute(0x8001, addresses) + attribute(0x8002, ports))


def _bare(namespace: Namespace) -> float:
    """Dumps all flows and reads them without decoding."""
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        started = time.perf_counter()
        sock.send(struct.pack("=IHHIIBBH", 20, _GET, _REQUEST_DUMP, 0, 0, socket.AF_INET, 0, 0))
        while struct.unpack_from("=H", sock.recv(1 << 17), 4)[0] != 3:
            pass
        return time.perf_counter() - started
