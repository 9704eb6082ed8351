"""The proxy's configuration as far as it affects packets, in the API's notation."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

Block = ipaddress.IPv4Network | ipaddress.IPv6Network

KEYWORDS = {"localhost": ("127.0.0.0/8", "::1/128"), "all": ("0.0.0.0/0", "::/0")}
"""Blocks that keywords in nodePortAddresses stand for."""
LOCALHOST_GATE = "KubeProxyNFTablesLocalhostNodePorts"
GATES_ON_SINCE = {
    "MultiCIDRServiceAllocator": (1, 33),
    "NFTablesProxyMode": (1, 31),
    "PreferSameTrafficDistribution": (1, 34),
    "ServiceTrafficDistribution": (1, 31),
    LOCALHOST_GATE: (1, 38),
}
"""Versions since which gates are on by default; all other gates always are."""


def packed(text: str) -> bytes:
    """A packed address; octets with leading zeros are decimal."""
    try:  # by the C library, as there are many
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        text = text.strip()
    if ":" not in text:
        text = ".".join(str(int(octet)) for octet in text.split("."))
    return ipaddress.ip_address(text).packed


@cache
def block(text: str) -> Block:
    """A CIDR block, host bits cleared, leading zeros allowed."""
    address, _, prefix = text.strip().partition("/")
    return ipaddress.ip_network((packed(address), int(prefix)), strict=False)


@dataclass(frozen=True)
class Settings:
    """As in a KubeProxyConfiguration; empty `node_ips` or `local_addresses` mean those of the Node object."""

    cluster_cidr: str = ""
    service_cidrs: tuple[str, ...] = ()
    detect_local_mode: str = "ClusterCIDR"
    pod_interface: str = ""
    masquerade_all: bool = False
    node_port_addresses: tuple[str, ...] | None = None
    localhost_node_ports: bool = True
    node_ips: tuple[str, ...] = ()
    local_addresses: tuple[str, ...] = ()
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    masquerade_bit: int = 14
    conntrack_tcp_be_liberal: bool = False
    ipvs_scheduler: str = "rr"
    ipvs_strict_arp: bool = False
    version: tuple[int, int] = (1, 37)
    """The Kubernetes minor version whose kube-proxy is modelled."""

    def gate(self, name: str) -> bool:
        """Whether a gate is on: as set, else by the default of the version."""
        return self.feature_gates.get(name, self.version >= GATES_ON_SINCE.get(name, (0, 0)))

    def node_port_blocks(self, size: int, node_ips: list[bytes], unset: tuple[str, ...] = ()) -> list[Block]:
        """CIDR blocks of a family whose addresses accept node ports; empty means all (NP-01 to NP-03b)."""
        blocks: list[Block] = []
        for text in self.node_port_addresses or unset:
            if text == "primary":
                known = (ipaddress.ip_address(ip) for ip in node_ips)
                blocks += [ipaddress.ip_network(ip) for ip in known if not ip.is_loopback]
            else:
                blocks += map(block, KEYWORDS.get(text, (text,)))
        ours = [b for b in blocks if len(b.network_address.packed) == size]
        return [] if any(b.prefixlen == 0 for b in ours) else ours

    def localhost_served(self, size: int) -> bool:
        """Whether the list includes loopback, so that mode nftables serves TCP node ports there itself (NP-11)."""
        texts = [block_text for text in self.node_port_addresses or () for block_text in KEYWORDS.get(text, (text,))]
        blocks = [b for b in map(block, (t for t in texts if t != "primary")) if len(b.network_address.packed) == size]
        loopback = ipaddress.ip_address("127.0.0.1" if size == 4 else "::1")
        if self.version < (1, 38):
            return any(b.network_address.is_loopback and b.prefixlen for b in blocks)
        return any(loopback in b and b.prefixlen for b in blocks)

    @property
    def localhost(self) -> bool:
        """Whether mode iptables accepts node ports on 127.0.0.0/8 (NP-05)."""
        if not self.localhost_node_ports:
            return False
        # If the node's address is known only from its Node object, assume that it has one.
        blocks = self.node_port_blocks(4, [packed(text) for text in self.node_ips] or [bytes(4)])
        return not blocks or any(
            b.network_address.is_loopback or ipaddress.ip_address("127.0.0.1") in b for b in blocks
        )

    def pod_block(self, size: int) -> Block | None:
        """The pod CIDR of a family; None if pods are detected differently or not at all."""
        if self.detect_local_mode not in ("", "ClusterCIDR", "NodeCIDR"):
            return None
        blocks = (block(text) for text in self.cluster_cidr.split(",") if text.strip())
        return next((b for b in blocks if len(b.network_address.packed) == size), None)

    def detects_pods(self, size: int) -> bool:
        """Whether pods' packets can be detected (DET)."""
        by_interface = self.detect_local_mode in ("BridgeInterface", "InterfaceNamePrefix") and self.pod_interface
        return bool(by_interface or self.pod_block(size))
