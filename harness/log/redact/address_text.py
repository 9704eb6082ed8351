"""Maps the text of addresses in API objects to text of the same form.

Unusual forms are preserved: leading zeros, surrounding blanks, host bits in a prefix, uppercase IPv6.  Text
that is not an address gives None; the caller treats it as a name.
"""

from __future__ import annotations

import ipaddress
import re

from harness.log.redact.addresses import AddressMap

_DOTTED = re.compile(r"(0*)([0-9]{1,3})\.(0*)([0-9]{1,3})\.(0*)([0-9]{1,3})\.(0*)([0-9]{1,3})", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,4}", re.ASCII)
_WIDTHS = {4: 32, 6: 128}


class AddressTexts:
    """Maps the text of addresses and blocks, with a cache."""

    def __init__(self, addresses: AddressMap) -> None:
        self._addresses = addresses
        self._seen: dict[str, str | None] = {}

    def mapped(self, text: str) -> str | None:
        """The mapped address or block, None if `text` is neither."""
        try:
            return self._seen[text]
        except KeyError:
            return self._seen.setdefault(text, self._map(text))

    def _map(self, text: str) -> str | None:
        bare = text.strip()
        start = text.index(bare)
        address, slash, length = bare.partition("/")
        mapped = self._block(address, length) if slash else self._address(address)
        return None if mapped is None else text[:start] + mapped + text[start + len(bare) :]

    def _address(self, text: str) -> str | None:
        parsed = _parse(text)
        if parsed is None:
            return None
        version, value, zeros = parsed
        return _format(version, self._addresses.value(version, value), zeros, text)

    def _block(self, address: str, length: str) -> str | None:
        """Host bits that are zero stay zero; otherwise the block is mapped as an address with a length."""
        parsed = _parse(address)
        if parsed is None or not _LENGTH.fullmatch(length):
            return None
        version, value, zeros = parsed
        bits = int(length)
        canonical = bits <= _WIDTHS[version] and value & ((1 << (_WIDTHS[version] - bits)) - 1) == 0
        mapped = self._addresses.network(version, value, bits) if canonical else self._addresses.value(version, value)
        return f"{_format(version, mapped, zeros, address)}/{length}"


def _parse(text: str) -> tuple[int, int, tuple[str, ...]] | None:
    """IP version, value, and each IPv4 octet's leading zeros."""
    if ":" in text:
        try:
            return (6, int(ipaddress.IPv6Address(text)), ()) if "%" not in text else None
        except ValueError:
            return None
    found = _DOTTED.fullmatch(text)
    if found is None or any(int(octet) > 255 for octet in found.groups()[1::2]):
        return None
    octets = found.groups()[1::2]
    return 4, int.from_bytes(bytes(map(int, octets)), "big"), found.groups()[::2]


def _format(version: int, value: int, zeros: tuple[str, ...], like: str) -> str:
    """Text of an address in the form of `like`."""
    if version == 4:
        return ".".join(zero + str(octet) for zero, octet in zip(zeros, value.to_bytes(4, "big"), strict=True))
    address = ipaddress.IPv6Address(value)
    if "." in like:  # the last 32 bits written as IPv4
        head = "::ffff:" if value >> 32 == 0xFFFF else ":".join(address.exploded.split(":")[:6]) + ":"
        return head + str(ipaddress.IPv4Address(value & 0xFFFFFFFF))
    text = address.exploded if len(like) == 39 else str(address)
    return text.upper() if like != like.lower() else text
