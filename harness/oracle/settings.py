"""How a proxy is configured, as far as it decides where packets go, in the API's own texts."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}


def packed(text: str) -> bytes:
    """An address packed; octets with leading zeros are decimal."""
    text = text.strip()
    if ":" not in text:
        text = ".".join(str(int(octet)) for octet in text.split("."))
    return ipaddress.ip_address(text).packed


def block(text: str):
    """A CIDR block, host bits cleared, leading zeros allowed."""
    address, _, prefix = text.strip().partition("/")
    return ipaddress.ip_network((packed(address), int(prefix)), strict=False)


@dataclass(frozen=True)
class Settings:
    """As in a KubeProxyConfiguration; `node_ips` and `local_addresses` empty: those of the Node object."""

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

    def gate(self, name: str) -> bool:
        """A gate that is not set is on."""
        return self.feature_gates.get(name, True)

    @property
    def localhost(self) -> bool:
        """Whether mode iptables takes node ports on 127.0.0.0/8 (NP-05)."""
        texts = self.node_port_addresses or ()
        if not self.localhost_node_ports or "primary" in texts:
            return False
        blocks = [b for b in map(block, texts) if b.version == 4]
        return not blocks or any(
            b.network_address.is_loopback or ipaddress.ip_address("127.0.0.1") in b for b in blocks
        )

    def pod_block(self, size: int):
        """The pod CIDR of a family; None when pods are told otherwise or not at all."""
        if self.detect_local_mode not in ("", "ClusterCIDR", "NodeCIDR"):
            return None
        blocks = (block(text) for text in self.cluster_cidr.split(",") if text.strip())
        return next((b for b in blocks if len(b.network_address.packed) == size), None)

    def tells_pods(self, size: int) -> bool:
        """Whether a pod's packets can be told from others (DET)."""
        by_interface = self.detect_local_mode in ("BridgeInterface", "InterfaceNamePrefix") and self.pod_interface
        return bool(by_interface or self.pod_block(size))
