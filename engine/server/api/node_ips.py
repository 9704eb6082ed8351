"""Selects this node's addresses and its primary family (CFG-20).  Pure."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from engine.addresses import LOOPBACK, parse_address
from engine.model import Address, Node

ASSUMING_LOOPBACK = (
    "Can't determine this node's IP, assuming loopback; if this is incorrect, please set the --bind-address flag"
)
ATTEMPTS = 6
FIRST_RETRY_SECONDS = 1.0
"""Up to 1.33 the Node is requested ATTEMPTS times; each wait is twice the previous one, with jitter."""


class NodeIPs(NamedTuple):
    """The node's address in each family, loopback if it has none, and the primary family."""

    family: int
    addresses: dict[int, Address]

    @property
    def primary(self) -> Address:
        """The address of the primary family."""
        return self.addresses[self.family]

    @property
    def unknown(self) -> bool:
        """Whether the primary address is loopback, to be logged with `ASSUMING_LOOPBACK`."""
        return ipaddress.ip_address(self.primary).is_loopback


def choose_node_ips(node: Node | None, bind_address: str = "0.0.0.0") -> NodeIPs:
    """The bind address unless it is unspecified, else the Node's, internal before external, else loopback.

    The Node's first address determines the primary family, and the first one of the other family is used as well.
    A bind address replaces the address of its family, which becomes primary; that of the other family is kept.
    """
    addresses = dict(LOOPBACK)
    family = 4
    listed = () if node is None else node.addresses + node.external_addresses
    for address in reversed(listed):
        family = family_of(address)
        addresses[family] = address
    bound = _specified(bind_address)
    if bound is not None:
        family = family_of(bound)
        addresses[family] = bound
    return NodeIPs(family, addresses)


def family_of(address: Address) -> int:
    """4 or 6."""
    return 4 if len(address) == 4 else 6


def _specified(text: str) -> Address | None:
    try:
        address = parse_address(text)
    except ValueError:
        return None
    return address if any(address) else None
