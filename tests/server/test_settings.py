"""From a configuration to the engine's settings: which block applies in which mode, and how pods are detected."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.addresses import parse_network
from engine.manifest import decode_node
from engine.server.api.node_ips import choose_node_ips
from engine.server.config.duration import Duration
from engine.server.config.options import EngineOptions
from engine.server.config.settings import periods, to_proxy_config
from engine.server.config.validation import validate
from tests.server.error_rows import configured

HERE = (bytes([192, 0, 2, 7]), bytes(15) + b"\x01")
"""The Node's address, and loopback in the family where it has none."""
NODE = decode_node(
    json.dumps(
        {
            "metadata": {"name": "n"},
            "spec": {"podCIDRs": ["10.1.0.0/24", "fd01::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]},
        }
    ).encode()
)


def made(**fields):
    fields = {path.replace("__", "."): value for path, value in fields.items()}
    options = EngineOptions(configured(fields), "n")
    return to_proxy_config(options, NODE, choose_node_ips(NODE))


def networks(*texts: str):
    return tuple(map(parse_network, texts))


PODS = {
    ("ClusterCIDR", "10.0.0.0/8,fd00::/48"): networks("10.0.0.0/8", "fd00::/48"),
    ("ClusterCIDR", "fd00::/48"): networks("fd00::/48"),
    ("ClusterCIDR", ""): (),
    ("", "10.0.0.0/8"): networks("10.0.0.0/8"),
    ("NodeCIDR", "10.0.0.0/8"): networks("10.1.0.0/24", "fd01::/64"),
    ("BridgeInterface", "10.0.0.0/8"): (),
}


@pytest.mark.parametrize(("mode", "cidr"), PODS)
def test_pods(mode, cidr):
    assert sorted(made(detect_local_mode=mode, cluster_cidr=cidr).pod_networks) == sorted(PODS[mode, cidr])


@pytest.mark.parametrize(("mode", "bit"), [("iptables", 1), ("ipvs", 1), ("nftables", 2)])
def test_masquerading_is_the_modes_own(mode, bit):
    config = made(mode=mode, iptables__masquerade_bit=1, iptables__masquerade_all=True, nftables__masquerade_bit=2)
    assert (config.masquerade_bit, config.masquerade_all) == (bit, bit == 1)


@pytest.mark.parametrize(
    ("mode", "seconds"), [("", (30, 1)), ("iptables", (30, 1)), ("ipvs", (30, 0)), ("nftables", (30, 1))]
)
def test_periods_by_default(mode, seconds):
    assert tuple(periods(configured({"mode": mode}))) == seconds


def test_interfaces():
    names = {"detect_local__bridge_interface": "cbr0", "detect_local__interface_name_prefix": "veth"}
    assert made(detect_local_mode="BridgeInterface", **names).pod_interfaces() == "cbr0"
    assert made(detect_local_mode="InterfaceNamePrefix", **names).pod_interfaces() == "veth*"
    assert made(**names).pod_interfaces() is None


def test_node_ports_and_addresses():
    assert made().node_port_addresses is None
    assert made().node_addresses == HERE
    assert made(node_port_addresses=("192.0.2.0/24",)).node_port_networks(4, HERE) == networks("192.0.2.0/24")


@pytest.mark.parametrize(
    ("texts", "four", "six"),
    [
        ((), [], []),
        (("primary",), ["192.0.2.7/32"], []),
        (("localhost",), ["127.0.0.0/8"], ["::1/128"]),
        (("all",), [], []),
        (("10.0.0.0/8", "primary", "localhost"), ["10.0.0.0/8", "192.0.2.7/32", "127.0.0.0/8"], ["::1/128"]),
        (("primary", "all"), [], []),
        (("192.0.2.1/0",), [], []),
        (("fd00::/8",), [], ["fd00::/8"]),
    ],
)
def test_keywords_are_expanded_in_place(texts, four, six):
    """NP-02a, NP-03a, NP-03b; a family without a block is open on all its addresses."""
    config = made(node_port_addresses=texts)
    assert config.node_port_networks(4, HERE) == networks(*four)
    assert config.node_port_networks(6, HERE) == networks(*six)


V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
BLOCKS = st.one_of(
    st.builds("{}/{}".format, V4, st.integers(0, 32)),
    st.builds("{}/{}".format, V6.filter(lambda address: address.ipv4_mapped is None), st.integers(0, 128)),
)
VALID = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["", "iptables", "ipvs", "nftables"]),
        "bind_address": st.one_of(V4, V6).map(str),
        "cluster_cidr": st.one_of(st.just(""), BLOCKS),
        "node_port_addresses": st.one_of(st.just(("primary",)), st.lists(BLOCKS, max_size=3).map(tuple)),
        "detect_local_mode": st.sampled_from(["", "ClusterCIDR", "NodeCIDR"]),
        "ipvs.exclude_cidrs": st.lists(BLOCKS, max_size=3).map(tuple),
        "ipvs.udp_timeout": st.integers(0, 10**12).map(Duration),
    }
)


@given(VALID)
def test_every_valid_configuration_can_be_run(fields):
    configuration = configured(fields)
    assert validate(configuration) == ()
    config = to_proxy_config(EngineOptions(configuration, "n"), NODE, choose_node_ips(NODE, configuration.bind_address))
    for family in (4, 6):
        config.pods(family), config.node_port_networks(family, HERE)
    assert len(config.host(NODE).node) == 2
    assert len(config.ipvs_exclude_networks) == len(fields["ipvs.exclude_cidrs"])


def test_ipvs():
    config = made(mode="ipvs", ipvs__exclude_cidrs=("10.9.0.0/16",))
    assert (config.ipvs_scheduler, config.ipvs_exclude_networks) == ("rr", networks("10.9.0.0/16"))
    assert made(ipvs__scheduler="lc").ipvs_scheduler == "lc"
