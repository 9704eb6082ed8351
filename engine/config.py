"""What a proxy is told about its node and cluster, apart from the events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.addresses import parse_network
from engine.model import ADDRESS_BYTES, Address, HostAddresses, Network, Node

NEWEST = (1, 35)
PRIMARY = "primary"
GATES_ON_SINCE = {
    "TopologyAwareHints": (1, 24),
    "KubeProxyDrainingTerminatingNodes": (1, 30),
    "LoadBalancerIPMode": (1, 30),
    "ServiceTrafficDistribution": (1, 31),
    "NFTablesProxyMode": (1, 31),
    "MultiCIDRServiceAllocator": (1, 33),
    "PreferSameTrafficDistribution": (1, 34),
}
"""The version from which a gate is on unless it is set; others are always on (VER-01, VER-02)."""


@dataclass(frozen=True)
class ProxyConfig:
    """One proxy's configuration, addresses packed.

    `pod_networks`: the pod CIDRs by which local traffic is told, at most one a family (DET-01, DET-02);
    `pod_interface`: a name in mode BridgeInterface, a prefix in InterfaceNamePrefix (DET-03).
    `node_port_addresses`: None for the mode's default, or CIDR texts, or ("primary",) (NP-01 to NP-03).
    `node_addresses`, `local_addresses`: the node's IPs and all that are local to it; empty means that
    the Node object's are (CFG-20).  `feature_gates` holds those that were set.  Timeouts of 0 leave the
    kernel's own; virtual servers on `ipvs_exclude_networks` are someone else's (IPVS-03, IPVS-09).
    What is winkernel's counts in a plan for Windows nodes only.
    """

    pod_networks: tuple[Network, ...] = ()
    service_networks: tuple[Network, ...] = ()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    detect_local_mode: str = "ClusterCIDR"
    pod_interface: str = ""
    node_port_addresses: tuple[str, ...] | None = None
    localhost_node_ports: bool = True
    conntrack_tcp_be_liberal: bool = False
    node_addresses: tuple[Address, ...] = ()
    local_addresses: tuple[Address, ...] = ()
    ipvs_scheduler: str = "rr"
    ipvs_strict_arp: bool = False
    ipvs_exclude_networks: tuple[Network, ...] = ()
    ipvs_tcp_timeout_seconds: int = 0
    ipvs_tcp_fin_timeout_seconds: int = 0
    ipvs_udp_timeout_seconds: int = 0
    winkernel_source_vip: str = ""
    winkernel_enable_dsr: bool = False
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    version: tuple[int, int] = NEWEST

    def gate(self, name: str) -> bool:
        """Whether a feature gate is on: as set, else by the version's default."""
        return self.feature_gates.get(name, self.version >= GATES_ON_SINCE.get(name, (0, 0)))

    def pods(self, family: int) -> Network | None:
        """The pod CIDR of a family; None when pods are not told by address, or not at all."""
        if self.detect_local_mode not in ("", "ClusterCIDR", "NodeCIDR"):
            return None
        return next((n for n in self.pod_networks if len(n.address) == ADDRESS_BYTES[family]), None)

    def pod_interfaces(self) -> str | None:
        """The interface of pods, a trailing `*` standing for any rest; None when they are not told by it."""
        suffix = {"BridgeInterface": "", "InterfaceNamePrefix": "*"}.get(self.detect_local_mode)
        return None if suffix is None or not self.pod_interface else self.pod_interface + suffix

    def services(self, family: int) -> tuple[Network, ...]:
        """Service CIDRs of a family; empty when unknown (CIP-02)."""
        if not self.gate("MultiCIDRServiceAllocator"):
            return ()
        return tuple(n for n in self.service_networks if len(n.address) == ADDRESS_BYTES[family])

    def host(self, node: Node | None) -> HostAddresses:
        """The machine's addresses: as configured, else what the Node object says."""
        if self.node_addresses:
            return HostAddresses(self.node_addresses, self.local_addresses or self.node_addresses)
        if node is None:
            return HostAddresses()
        return HostAddresses(node.host_addresses, self.local_addresses or node.addresses)

    def node_port_networks(self, family: int) -> tuple[Network, ...] | None:
        """Blocks of a family whose local addresses take node ports; empty is all of them.

        None is the node's own address: asked for as `primary`, or the default where a mode has none
        of its own.
        """
        texts = self.node_port_addresses
        if not texts or tuple(texts) == (PRIMARY,):
            return None
        networks = [parse_network(text) for text in texts]
        ours = tuple(n for n in networks if len(n.address) == ADDRESS_BYTES[family])
        return () if any(n.prefix == 0 for n in ours) else ours
