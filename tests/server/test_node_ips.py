"""The node's addresses and primary family (CFG-20), and the engine's use of them."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.addresses import format_address, parse_address
from engine.manifest import decode_node
from engine.model import Node
from engine.server.api.node_ips import choose_node_ips

V4, V6, LOOP4, LOOP6 = "90.90.90.90", "2001:db8::2", "127.0.0.1", "::1"


class Row(NamedTuple):
    """The Node's addresses as (type letter, address), None for no Node; the bind address; what comes of them."""

    node: list[tuple[str, str]] | None
    bind: str
    family: int
    ipv4: str
    ipv6: str


ROWS = {
    "no Node, bound to any": Row(None, "0.0.0.0", 4, LOOP4, LOOP6),
    "no Node, bound to any IPv6": Row(None, "::", 4, LOOP4, LOOP6),
    "no Node, no binding": Row(None, "", 4, LOOP4, LOOP6),
    "no Node, bound": Row(None, "192.168.1.1", 4, "192.168.1.1", LOOP6),
    "no Node, bound to IPv6": Row(None, "fd00:4321::2", 6, LOOP4, "fd00:4321::2"),
    "Node without addresses": Row([], "0.0.0.0", 4, LOOP4, LOOP6),
    "hostnames are no addresses": Row([("H", "worker"), ("D", "worker.local")], "0.0.0.0", 4, LOOP4, LOOP6),
    "internal": Row([("I", V4)], "0.0.0.0", 4, V4, LOOP6),
    "internal, bound to any IPv6": Row([("I", V4)], "::", 4, V4, LOOP6),
    "internal IPv6": Row([("I", V6)], "0.0.0.0", 6, LOOP4, V6),
    "external alone": Row([("E", V4)], "0.0.0.0", 4, V4, LOOP6),
    "internal before external": Row([("E", "1.1.1.1"), ("I", V4)], "0.0.0.0", 4, V4, LOOP6),
    "external of the other family": Row([("E", V6), ("I", V4)], "0.0.0.0", 4, V4, V6),
    "the first internal one": Row([("I", V4), ("I", "1.1.1.1")], "0.0.0.0", 4, V4, LOOP6),
    "dual stack, IPv4 leads": Row([("I", V4), ("I", V6)], "::", 4, V4, V6),
    "dual stack, IPv6 leads": Row([("I", V6), ("I", V4)], "0.0.0.0", 6, V4, V6),
    "the first of each family": Row([("I", V6), ("I", "fd00::9"), ("I", V4), ("I", "1.1.1.1")], "::", 6, V4, V6),
    "binding overrides": Row([("I", V4)], "80.80.80.80", 4, "80.80.80.80", LOOP6),
    "binding to IPv6 leads, IPv4 stays": Row([("I", V4)], "2001:db8::555", 6, V4, "2001:db8::555"),
    "dual stack, bound to IPv4": Row([("I", V6), ("I", V4)], "80.80.80.80", 4, "80.80.80.80", V6),
    "dual stack, bound to IPv6": Row([("I", V4), ("I", V6)], "2001:db8::555", 6, V4, "2001:db8::555"),
    "bound to loopback": Row([("I", V4)], "127.0.0.1", 4, LOOP4, LOOP6),
}
TYPES = {"I": "InternalIP", "E": "ExternalIP", "H": "Hostname", "D": "InternalDNS"}


def node_of(listed: list[tuple[str, str]] | None) -> Node | None:
    if listed is None:
        return None
    addresses = [{"type": TYPES[kind], "address": address} for kind, address in listed]
    return decode_node(json.dumps({"metadata": {"name": "n"}, "status": {"addresses": addresses}}).encode())


@pytest.mark.parametrize("name", ROWS)
def test_the_node_ips_are_chosen(name):
    row = ROWS[name]
    chosen = choose_node_ips(node_of(row.node), row.bind)
    texts = {family: format_address(address) for family, address in chosen.addresses.items()}
    assert (chosen.family, texts) == (row.family, {4: row.ipv4, 6: row.ipv6})
    assert chosen.unknown == (format_address(chosen.primary) in (LOOP4, LOOP6))


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.lists(st.tuples(st.sampled_from("IE"), ADDRESSES), max_size=5), st.one_of(st.just("0.0.0.0"), ADDRESSES))
def test_every_family_has_its_address_and_the_first_is_primary(listed, bind):
    chosen = choose_node_ips(node_of(listed), bind)
    assert {family: len(address) for family, address in chosen.addresses.items()} == {4: 4, 6: 16}
    internal_first = sorted(listed, key=lambda each: each[0] != "I")
    bound = parse_address(bind)
    wanted = bound if any(bound) else parse_address(internal_first[0][1]) if listed else b"\x7f\0\0\1"
    assert chosen.primary == wanted
