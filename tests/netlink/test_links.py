"""A device for addresses, made, filled and read by rtnetlink alone: no tool is needed."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_address

import pytest

from engine.kernel.links import Dummy, addresses, until_local
from engine.kernel.netlink import ROUTE, Connection, NetlinkError

FOUR = [ip_address(f"172.30.0.{n}").packed for n in range(1, 6)]
SIX = [ip_address(f"fd00:96::{n}").packed for n in range(1, 6)]


@pytest.fixture
def route(namespace):
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, ROUTE) as sock:
        yield Connection(sock)


@pytest.fixture
def device(namespace, route):
    """One that is there already, as after a restart: not every kernel that tests run on has dummy devices."""
    made = Dummy(route, "kube-test0")
    assert made.index() == 0
    assert namespace.run(["ip", "link", "add", "kube-test0", "type", "veth", "peer", "name", "other"]).returncode == 0
    made.make()
    return made


def shown(namespace) -> list[tuple[str, int]]:
    """What `ip` says."""
    listed = json.loads(namespace.run(["ip", "-j", "address", "show", "dev", "kube-test0"]).stdout)
    return [(a["local"], a["prefixlen"]) for link in listed for a in link.get("addr_info", ())]


def test_addresses_are_added_replaced_and_deleted(namespace, route, device):
    device.make()
    assert device.index() > 0
    device.add(FOUR[:3])
    device.add(SIX[:2])
    assert sorted(shown(namespace)) == [
        *((f"172.30.0.{n}", 32) for n in (1, 2, 3)), *((f"fd00:96::{n}", 128) for n in (1, 2)),
    ]  # fmt: skip
    device.replace(4, FOUR[2:])
    assert sorted(a for i, a in addresses(route, 4) if i == device.index()) == FOUR[2:]
    assert sorted(a for i, a in addresses(route, 6) if i == device.index()) == SIX[:2]
    device.delete(SIX[:1])
    assert [a for i, a in addresses(route, 6) if i == device.index()] == SIX[1:2]
    with pytest.raises(NetlinkError, match=r"kube-test0: cannot change address fd00:96::1: .*EADDRNOTAVAIL"):
        device.delete(SIX[:1])


def test_adding_an_address_waits_until_it_accepts_packets(route, device):
    device.add(SIX)
    until_local(route, "kube-test0", SIX)
    until_local(route, "kube-test0", ())
