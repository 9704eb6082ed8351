"""Conversion of IP addresses and CIDR blocks between the API's text and packed bytes.

Kubernetes accepts leading zeros in IPv4 octets and reads them as decimal (SVC-06); Python's
`ipaddress` rejects them, hence this parser, which is also faster for IPv4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from engine.model import Address, Network, Target

_OCTETS = {str(number): number for number in range(256)}

LOOPBACK = {4: bytes([127, 0, 0, 1]), 6: bytes(15) + b"\x01"}


def parse_address(text: str) -> Address:
    """Packed bytes of an IPv4 or IPv6 address; ValueError for anything else."""
    if ":" not in text:
        octets = text.split(".")
        try:  # nearly every address, in half the time
            first, second, third, fourth = octets
            return bytes((_OCTETS[first], _OCTETS[second], _OCTETS[third], _OCTETS[fourth]))
        except (KeyError, ValueError):
            pass
        if len(octets) == 4 and text.isascii() and "".join(octets).isdigit() and all(octets):
            return bytes(map(int, octets))
        raise ValueError(f"{text!r} is not an IP address")
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    return ipaddress.IPv6Address(text).packed


def parse_network(text: str) -> Network:
    """A CIDR block with host bits cleared; ValueError for anything else."""
    address, slash, prefix = text.strip().partition("/")
    packed = parse_address(address)
    if not slash or not prefix.isdigit() or int(prefix) > 8 * len(packed):
        raise ValueError(f"{text!r} is not a CIDR block such as 10.0.0.0/8")
    return clear_host_bits(Network(packed, int(prefix)))


def clear_host_bits(network: Network) -> Network:
    """The block with all bits after the prefix cleared."""
    bits = 8 * len(network.address)
    mask = ((1 << network.prefix) - 1) << (bits - network.prefix)
    value = int.from_bytes(network.address, "big") & mask
    return Network(value.to_bytes(len(network.address), "big"), network.prefix)


def contains(network: Network, address: Address) -> bool:
    """Whether `address` (of the same family) lies in `network`."""
    return len(network.address) == len(address) and (
        clear_host_bits(Network(address, network.prefix)).address == network.address
    )


def last_address(network: Network) -> Address:
    """The highest address of a block."""
    bits = 8 * len(network.address) - network.prefix
    value = int.from_bytes(network.address, "big") | ((1 << bits) - 1)
    return value.to_bytes(len(network.address), "big")


def collapse(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Sorted blocks, without those contained in another."""
    kept: list[Network] = []
    for network in sorted(set(networks)):
        if not kept or network.prefix < kept[-1].prefix or not contains(kept[-1], network.address):
            kept.append(network)
    return tuple(kept)


def format_network(network: Network) -> str:
    """`10.0.0.0/8`."""
    return f"{format_address(network.address)}/{network.prefix}"


def format_address(address: Address) -> str:
    """The canonical text of a packed address."""
    if len(address) == 4:
        return "{}.{}.{}.{}".format(*address)
    return str(ipaddress.ip_address(address))


def split_target(target: Target) -> tuple[Address, int]:
    """An endpoint's address and port."""
    return target[:-2], target[-2] << 8 | target[-1]


def socket_text(target: Target) -> str:
    """`10.0.0.1:80` or `[fd00::1]:80`."""
    address, port = split_target(target)
    return f"{format_address(address)}:{port}" if len(address) == 4 else f"[{format_address(address)}]:{port}"


def is_loopback(address: Address) -> bool:
    """Whether a packed address is one of 127.0.0.0/8, or ::1."""
    return address[0] == 127 if len(address) == 4 else address == LOOPBACK[6]


def is_link_local(address: Address) -> bool:
    """Whether a packed address is one of fe80::/10."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
