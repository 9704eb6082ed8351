"""Which addresses are this node's, and which family leads (CFG-20).  Pure: asking the API again is the loop's."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from engine.addresses import parse_address
from engine.model import Address, Node

LOOPBACK = {4: bytes([127, 0, 0, 1]), 6: bytes(15) + b"\x01"}
ASSUMING_LOOPBACK = (
    "Can't determine this node's IP, assuming loopback; if this is incorrect, please set the --bind-address flag"
)
ATTEMPTS = 6
FIRST_RETRY_SECONDS = 1.0
"""The Node is asked for so often; each wait is twice the one before, with jitter."""


class NodeIPs(NamedTuple):
    """The node's address in each family, loopback where it has none, and the family that leads."""

    family: int
    addresses: dict[int, Address]

    @property
    def primary(self) -> Address:
        """The address of the leading family."""
        return self.addresses[self.family]

    @property
    def unknown(self) -> bool:
        """Whether the primary address is loopback, which `ASSUMING_LOOPBACK` tells the log."""
        return ipaddress.ip_address(self.primary).is_loopback


def choose_node_ips(node: Node | None, bind_address: str = "0.0.0.0") -> NodeIPs:
    """The bind address unless it is unspecified, else the Node's, internal before external, else loopback.

    The Node's first address leads, and the first one of the other family goes with it.  A bind address
    takes its family's place, and the lead; the Node's address in the other family stays.
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
