"""A keyed map of addresses onto addresses that keeps how they lie to each other.

Two addresses that share exactly their first n bits share exactly n bits afterwards (Xu, Fan, Ammar,
Moon: "Prefix-preserving IP address anonymization", 2002), so families, subnets and containment stay.
Each bit is flipped or not by a pseudorandom function of the bits before it.  Where those bits lead
to a range with a meaning (10.0.0.0/8, fd00::/8, ...) no bit is flipped: such ranges map onto themselves,
and what is outside stays outside.
"""

from __future__ import annotations

import hmac
import ipaddress
from functools import lru_cache

OWN_RANGES = (
    "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "192.0.2.0/24", "192.88.99.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "100::/64", "2000::/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/8",
    "fd00::/8", "fe80::/10", "fec0::/10",
)  # fmt: skip
"""Ranges with a meaning (IANA's special-purpose registries); addresses change inside, and stay inside."""

FIXED_RANGES = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4", "::/8", "ff00::/8",
)  # fmt: skip
"""Ranges in which every single address has a meaning of its own, the same everywhere: kept as they are."""

EMBEDDING_RANGES = ("::ffff:0:0/96", "64:ff9b::/96")
"""IPv6 ranges that hold IPv4 addresses (RFC 4291, RFC 6052): the last 32 bits map as those do."""

_WIDTHS = {4: 32, 6: 128}
_EMBEDDED = tuple(int(ipaddress.IPv6Network(text).network_address) >> 32 for text in EMBEDDING_RANGES)


def _prefixes(texts: tuple[str, ...], version: int) -> list[tuple[int, int]]:
    """(length, leading bits) of the ranges of one family."""
    networks = [network for network in map(ipaddress.ip_network, texts) if network.version == version]
    return [(n.prefixlen, int(n.network_address) >> (_WIDTHS[version] - n.prefixlen)) for n in networks]


def _leading(ranges: list[tuple[int, int]]) -> frozenset[tuple[int, int]]:
    """Every proper prefix of every range: the places where a flip would move a range."""
    return frozenset((n, bits >> (length - n)) for length, bits in ranges for n in range(length))


_FIXED = {version: _prefixes(FIXED_RANGES, version) for version in _WIDTHS}
_LEADING = {version: _leading(_prefixes(OWN_RANGES + FIXED_RANGES + EMBEDDING_RANGES, version)) for version in _WIDTHS}


class AddressMap:
    """The map under one key; it depends on nothing else, and no two addresses map to one."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._pads = lru_cache(maxsize=1 << 17)(self._pad)

    def value(self, version: int, value: int) -> int:
        """Where an address (as an integer, of IP version 4 or 6) goes."""
        if version == 6 and value >> 32 in _EMBEDDED:
            return value >> 32 << 32 | self.value(4, value & 0xFFFFFFFF)
        width = _WIDTHS[version]
        if any(value >> (width - length) == bits for length, bits in _FIXED[version]):
            return value
        leading = _LEADING[version]
        mapped = 0
        for depth in range(width):
            before = value >> (width - depth)
            bit = value >> (width - depth - 1) & 1
            if (depth, before) not in leading:
                bit ^= self._flip(version, depth, before)
            mapped = mapped << 1 | bit
        return mapped

    def network(self, version: int, value: int, length: int) -> int:
        """Where the block of that many bits goes: its first address, host bits zero."""
        host = _WIDTHS[version] - length
        return self.value(version, value) >> host << host

    def _flip(self, version: int, depth: int, before: int) -> int:
        """Whether the bit after `before` (`depth` bits) is flipped; one digest serves the eight depths of a byte."""
        inside = depth & 7
        pad = self._pads(version, depth >> 3, before >> inside)
        node = 1 << inside | before & ((1 << inside) - 1)
        return pad >> node & 1

    def _pad(self, version: int, size: int, before: int) -> int:
        """256 pseudorandom bits for the tree of the byte that follows `size` bytes."""
        message = b"address" + bytes((version, size)) + before.to_bytes(16, "big")
        return int.from_bytes(hmac.digest(self._key, message, "sha256"), "big")
