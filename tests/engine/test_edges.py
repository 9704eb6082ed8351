"""The engine's input: valid and invalid addresses and manifests."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.addresses import (
    clear_host_bits,
    collapse,
    contains,
    format_address,
    last_address,
    parse_address,
    parse_network,
)
from engine.manifest import ManifestError, decode_node, decode_service, decode_slice
from engine.model import Network

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(addresses)
def test_an_address_survives_packing(address):
    packed = parse_address(str(address))
    assert packed == address.packed
    assert format_address(packed) == str(address)


@pytest.mark.parametrize(("text", "same"), [("172.30.0.041", "172.30.0.41"), ("010.0.0.1", "10.0.0.1")])
def test_leading_zeros_are_decimal(text, same):
    assert parse_address(text) == ipaddress.ip_address(same).packed


NO_ADDRESSES = ["", "10.0.0", "10.0.0.256", "10.0.0.1.2", "10.0.0.x", "fe80::1%eth0", "::g", "1.2.3.-4"]


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_an_invalid_address_is_rejected(text):
    with pytest.raises(ValueError):
        parse_address(text)


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_networks_are_those_of_the_standard_library(number, prefix, other):
    packed, probe = number.to_bytes(4, "big"), other.to_bytes(4, "big")
    theirs = ipaddress.ip_network((packed, prefix), strict=False)
    ours = clear_host_bits(Network(packed, prefix))
    assert ours.address == theirs.network_address.packed
    assert last_address(ours) == theirs.broadcast_address.packed
    assert contains(ours, probe) == (ipaddress.ip_address(probe) in theirs)


@given(st.lists(st.tuples(st.integers(0, 2**8 - 1), st.integers(0, 8)), max_size=12))
def test_collapsed_networks_cover_the_same_and_never_overlap(blocks):
    networks = tuple(clear_host_bits(Network(bytes([n, 0, 0, 0]), p)) for n, p in blocks)
    kept = collapse(networks)
    for first in range(256):
        address = bytes([first, 1, 2, 3])
        covered = sum(contains(network, address) for network in kept)
        assert covered == any(contains(network, address) for network in networks)


def test_a_network_needs_a_prefix():
    assert parse_network(" 203.0.113.000/025 ") == Network(bytes([203, 0, 113, 0]), 25)
    for text in ("10.0.0.0", "10.0.0.0/33", "10.0.0.0/x", "fd00::/129"):
        with pytest.raises(ValueError):
            parse_network(text)


META = {"name": "a", "namespace": "b"}
BAD = {
    "not JSON": (decode_service, b"{"),
    "no name": (decode_service, {"metadata": {}}),
    "ports no list": (decode_service, {"metadata": META, "spec": {"clusterIP": "10.0.0.1", "ports": 3}}),
    "bad cluster IP": (decode_service, {"metadata": META, "spec": {"clusterIP": "10.0.0.1.2"}}),
    "bad protocol": (
        decode_service,
        {"metadata": META, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 1, "protocol": "ICMP"}]}},
    ),
    "no such port": (decode_service, {"metadata": META, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 65536}]}}),
    "negative node port": (
        decode_service,
        {"metadata": META, "spec": {"clusterIP": "10.0.0.1", "ports": [{"nodePort": -1}]}},
    ),
    "affinity for ever": (
        decode_service,
        {
            "metadata": META,
            "spec": {
                "clusterIP": "10.0.0.1",
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1 << 40}},
            },
        },
    ),
    "bad range": (
        decode_service,
        {"metadata": META, "spec": {"clusterIP": "10.0.0.1", "loadBalancerSourceRanges": ["10.0.0.0/99"]}},
    ),
    "bad endpoint": (
        decode_slice,
        {
            "metadata": {**META, "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.300"]}],
        },
    ),
    "bad node address": (
        decode_node,
        {"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "n1"}]}},
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_manifest_is_an_error_with_its_reason(name):
    decode, manifest = BAD[name]
    with pytest.raises(ManifestError) as error:
        decode(manifest if isinstance(manifest, bytes) else msgspec.json.encode(manifest))
    assert len(str(error.value)) > 10


leaves = st.none() | st.booleans() | st.integers() | st.text()
any_json = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(any_json)
def test_any_json_is_decoded_or_refused(value):
    for decode in (decode_service, decode_slice, decode_node):
        try:
            decode(msgspec.json.encode({"metadata": META, "spec": value, "endpoints": value, "status": value}))
        except ManifestError:
            pass
