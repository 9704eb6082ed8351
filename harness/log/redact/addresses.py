"""A keyed, prefix-preserving map of addresses.

Two addresses that share exactly their first n bits share exactly n bits afterwards (Xu, Fan, Ammar,
Moon: "Prefix-preserving IP address anonymization", 2002), so families, subnets and containment are preserved.
Each bit is flipped or not by a pseudorandom function of the bits before it.  Bits on the path to a
special-purpose range (10.0.0.0/8, fd00::/8, ...) are not flipped: such ranges map onto themselves, and
addresses outside stay outside.
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
"""Special-purpose ranges (IANA's registries); addresses inside are mapped, and stay inside."""

FIXED_RANGES = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4", "::/8", "ff00::/8",
)  # fmt: skip
"""Ranges in which every address has a fixed, universal meaning: not mapped."""

EMBEDDING_RANGES = ("::ffff:0:0/96", "64:ff9b::/96")
"""IPv6 ranges that embed IPv4 addresses (RFC 4291, RFC 6052): the last 32 bits are mapped as IPv4."""

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
    """The map for one key; it depends only on the key and is injective."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._bytes = lru_cache(maxsize=1 << 17)(self._byte)

    def value(self, version: int, value: int) -> int:
        """The mapped address (integers, IP version 4 or 6)."""
        if version == 6 and value >> 32 in _EMBEDDED:
            return value >> 32 << 32 | self.value(4, value & 0xFFFFFFFF)
        width = _WIDTHS[version]
        if any(value >> (width - length) == bits for length, bits in _FIXED[version]):
            return value
        mapped = 0
        for size in range(width // 8):
            mapped = mapped << 8 | self._bytes(version, size, value >> (width - 8 * size - 8))
        return mapped

    def network(self, version: int, value: int, length: int) -> int:
        """The mapped block of that length: its first address, with host bits zero."""
        host = _WIDTHS[version] - length
        return self.value(version, value) >> host << host

    def _byte(self, version: int, size: int, through: int) -> int:
        """The mapped byte at `size`, the last of `through`, given the preceding bytes."""
        leading, pad = _LEADING[version], self._pad(version, size, through >> 8)
        mapped = 0
        for inside in range(8):
            before = through >> (8 - inside)
            bit = through >> (7 - inside) & 1
            if (8 * size + inside, before) not in leading:
                bit ^= pad >> (1 << inside | before & ((1 << inside) - 1)) & 1
            mapped = mapped << 1 | bit
        return mapped

    def _pad(self, version: int, size: int, before: int) -> int:
        """256 pseudorandom bits for the tree of the byte that follows `size` bytes: one digest for its eight depths."""
        message = b"address" + bytes((version, size)) + before.to_bytes(16, "big")
        return int.from_bytes(hmac.digest(self._key, message, "sha256"), "big")
