"""The map of addresses: what it must keep, for every key and every pair of addresses."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.log.redact.address_text import AddressTexts
from harness.log.redact.addresses import EMBEDDING_RANGES, FIXED_RANGES, OWN_RANGES, AddressMap

KEYS = st.binary(min_size=16, max_size=32)
RANGES = [ipaddress.ip_network(text) for text in OWN_RANGES + FIXED_RANGES + EMBEDDING_RANGES]
WIDTHS = {4: 32, 6: 128}


def inside(network) -> st.SearchStrategy[int]:
    return st.integers(int(network.network_address), int(network.broadcast_address))


def integers(version: int) -> st.SearchStrategy[int]:
    """Addresses anywhere, in and right beside every range with a meaning."""
    known = [network for network in RANGES if network.version == version]
    edges = [edge for n in known for edge in (int(n.network_address) - 1, int(n.broadcast_address) + 1)]
    edges = [edge for edge in edges if 0 <= edge < 1 << WIDTHS[version]]
    somewhere = st.integers(0, (1 << WIDTHS[version]) - 1)
    return somewhere | st.sampled_from(edges) | st.sampled_from(known).flatmap(inside)


@st.composite
def pairs(draw) -> tuple[int, int, int]:
    """Two addresses of a family that share a number of bits."""
    version = draw(st.sampled_from([4, 6]))
    first, other = draw(integers(version)), draw(integers(version))
    low = WIDTHS[version] - draw(st.integers(0, WIDTHS[version]))
    return version, first, first >> low << low | other & ((1 << low) - 1)


def shared(version: int, first: int, second: int) -> int:
    return WIDTHS[version] - (first ^ second).bit_length()


def network_of(version: int, value: int):
    """The narrowest range with a meaning that an address is in, None when it is in none."""
    address = ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value)
    found = [network for network in RANGES if network.version == version and address in network]
    return max(found, key=lambda network: network.prefixlen, default=None)


@given(KEYS, pairs())
def test_the_length_of_shared_prefixes_is_kept(key, pair):
    version, first, second = pair
    addresses = AddressMap(key)
    mapped = addresses.value(version, first), addresses.value(version, second)
    assert shared(version, *mapped) == shared(version, first, second), "hence injective, and blocks stay blocks"


@given(KEYS, st.sampled_from([4, 6]), st.data())
def test_special_ranges_map_onto_themselves(key, version, data):
    value = data.draw(integers(version))
    mapped = AddressMap(key).value(version, value)
    assert network_of(version, mapped) == network_of(version, value)
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    if network_of(version, value) == ipaddress.ip_network("2001::/23"):
        return  # Python knows parts of it apart, which no cluster uses
    for name in ("is_private", "is_global", "is_loopback", "is_multicast", "is_link_local", "is_reserved"):
        assert getattr(make(mapped), name) == getattr(make(value), name)


@given(KEYS, st.sampled_from(FIXED_RANGES), st.data())
def test_addresses_that_are_the_same_everywhere_stay(key, text, data):
    network = ipaddress.ip_network(text)
    value = data.draw(inside(network))
    if all(value >> 32 != int(ipaddress.ip_network(e).network_address) >> 32 for e in EMBEDDING_RANGES):
        assert AddressMap(key).value(network.version, value) == value


@given(KEYS, st.sampled_from([4, 6]), st.data())
def test_blocks_contain_what_they_contained(key, version, data):
    width = WIDTHS[version]
    length = data.draw(st.integers(0, width))
    first = data.draw(integers(version)) >> (width - length) << (width - length)
    value, other = first | data.draw(st.integers(0, (1 << (width - length)) - 1)), data.draw(integers(version))
    texts = AddressTexts(AddressMap(key))
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    block = ipaddress.ip_network(texts.mapped(f"{make(first)}/{length}"))
    assert block.prefixlen == length
    assert make(texts.mapped(str(make(value)))) in block
    was_inside = make(other) in ipaddress.ip_network(f"{make(first)}/{length}")
    assert (make(texts.mapped(str(make(other)))) in block) == was_inside


def test_a_small_block_is_mapped_one_to_one():
    texts = AddressTexts(AddressMap(b"a key of sixteen"))
    block = ipaddress.ip_network("10.20.0.0/20")
    images = {texts.mapped(str(address)) for address in block}
    assert len(images) == block.num_addresses
    assert {ipaddress.ip_network(f"{image}/20", strict=False) for image in images} == {
        ipaddress.ip_network(texts.mapped("10.20.0.0/20"))
    }


@given(KEYS, KEYS)
@example(b"a key of sixteen", b"another sixteen.")
def test_another_key_is_another_map(one, other):
    def images(key: bytes) -> list[int]:
        return [AddressMap(key).value(4, (10 << 24) + 4099 * i) for i in range(64)]

    assert (images(one) == images(other)) == (one == other)


@pytest.mark.parametrize(
    "text, form",
    [
        ("010.000.0.1", r"0\d+\.00\d+\.\d+\.\d+"),
        (" 10.0.0.1\t", r" 10\.[\d.]+\t"),
        ("FD00::1", r"FD[0-9A-F:]+"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", r"2001:0db8(:[0-9a-f]{4}){6}"),
        ("::ffff:10.0.0.1", r"::ffff:10\.[\d.]+"),
        ("10.1.2.3/16", r"10\.[\d.]+/16"),
        ("1.2.3.4/33", r"[\d.]+/33"),
        ("0.0.0.0/0", r"0\.0\.0\.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_unusual_notations_keep_their_form(text, form):
    mapped = AddressTexts(AddressMap(b"a key of sixteen")).mapped(text)
    assert re.fullmatch(form, mapped), mapped


@pytest.mark.parametrize("text", ["", "None", "1.2.3", "300.1.1.1", "1.2.3.4.5", "fe80::1%eth0", "10.0.0.0/x", "web"])
def test_an_invalid_address_is_not_mapped(text):
    assert AddressTexts(AddressMap(b"a key of sixteen")).mapped(text) is None


@given(KEYS, st.integers(0, (1 << 32) - 1))
def test_an_ipv4_address_inside_an_ipv6_one_maps_as_it_does_alone(key, value):
    addresses = AddressMap(key)
    for text in EMBEDDING_RANGES:
        base = int(ipaddress.ip_network(text).network_address)
        assert addresses.value(6, base | value) == base | addresses.value(4, value)
