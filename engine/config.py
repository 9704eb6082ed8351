"""Configuration of a proxy: what it knows of its node and cluster apart from the events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from engine.addresses import LOOPBACK, contains, is_loopback, parse_network
from engine.model import ADDRESS_BYTES, Address, HostAddresses, Network, Node

OLDEST, NEWEST, PREVIEW = (1, 30), (1, 37), (1, 38)
"""Kubernetes versions whose kube-proxy the engine can follow; the newest is the default, the preview unreleased."""
PRIMARY, LOCALHOST, ALL = NODE_PORT_KEYWORDS = ("primary", "localhost", "all")
LOCALHOST_GATE = "KubeProxyNFTablesLocalhostNodePorts"
LOOPBACK_WITHIN_SINCE = (1, 38)
KEYWORD_BLOCKS = {LOCALHOST: ("127.0.0.0/8", "::1/128"), ALL: ("0.0.0.0/0", "::/0")}
GATES_ON_SINCE = {
    "TopologyAwareHints": (1, 24),
    "KubeProxyDrainingTerminatingNodes": (1, 30),
    "LoadBalancerIPMode": (1, 30),
    "ServiceTrafficDistribution": (1, 31),
    "NFTablesProxyMode": (1, 31),
    "MultiCIDRServiceAllocator": (1, 33),
    "PreferSameTrafficDistribution": (1, 34),
    "KubeProxyNFTablesLocalhostNodePorts": (1, 38),
    "ComponentFlagz": (1, 36),
    "ComponentStatusz": (1, 36),
}
"""The version since which a gate is on by default; others are always on (VER-01, VER-02)."""


def parse_version(text: str) -> tuple[int, int]:
    """A Kubernetes minor version such as "1.37" or "v1.37.2"; ValueError if the engine does not support it."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?", text)
    version = (int(found[1]), int(found[2])) if found else None
    if version is None or not OLDEST <= version <= PREVIEW:
        first, last = ("{}.{}".format(*each) for each in (OLDEST, PREVIEW))
        raise ValueError(f"{text!r} is not a supported Kubernetes version; {first} to {last} are supported")
    return version


def gate_default(name: str, version: tuple[int, int]) -> bool:
    """Whether a gate is on by default in a version."""
    return version >= GATES_ON_SINCE.get(name, (0, 0))


@dataclass(frozen=True)
class ProxyConfig:
    """One proxy's configuration, addresses packed.

    `pod_networks`: the pod CIDRs that identify local traffic, at most one per family (DET-01, DET-02);
    `pod_interface`: a name in mode BridgeInterface, a prefix in InterfaceNamePrefix (DET-03).
    `node_port_addresses`: None for the mode's default, or CIDR texts and keywords (NP-01 to NP-03b).
    `node_addresses`, `local_addresses`: the node's IPs and all addresses local to it; if empty, those of
    the Node object are used (CFG-20).  `feature_gates` holds those set explicitly.  Timeouts of 0 keep those of the
    kernel; virtual servers in `ipvs_exclude_networks` are left alone (IPVS-03, IPVS-09).
    `winkernel_*` applies only to plans for Windows nodes.
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
        """Whether a feature gate is on: as set, else the version's default."""
        on = self._gates.get(name)
        if on is None:
            on = self._gates[name] = self.feature_gates.get(name, gate_default(name, self.version))
        return on

    @cached_property
    def _gates(self) -> dict[str, bool]:
        """Gates that were looked up: every Service asks for several."""
        return {}

    def pods(self, family: int) -> Network | None:
        """The pod CIDR of a family; None if pods are not detected by address, or not at all."""
        if self.detect_local_mode not in ("", "ClusterCIDR", "NodeCIDR"):
            return None
        return next((n for n in self.pod_networks if len(n.address) == ADDRESS_BYTES[family]), None)

    def pod_interfaces(self) -> str | None:
        """The pods' interface, where a trailing `*` marks a prefix; None if pods are not detected by interface."""
        suffix = {"BridgeInterface": "", "InterfaceNamePrefix": "*"}.get(self.detect_local_mode)
        return None if suffix is None or not self.pod_interface else self.pod_interface + suffix

    def services(self, family: int) -> tuple[Network, ...]:
        """Service CIDRs of a family; empty if unknown (CIP-02)."""
        if not self.gate("MultiCIDRServiceAllocator"):
            return ()
        return tuple(n for n in self.service_networks if len(n.address) == ADDRESS_BYTES[family])

    def host(self, node: Node | None) -> HostAddresses:
        """The machine's addresses: as configured, else those of the Node object."""
        if self.node_addresses:
            return HostAddresses(self.node_addresses, self.local_addresses or self.node_addresses)
        if node is None:
            return HostAddresses()
        return HostAddresses(node.host_addresses, self.local_addresses or node.addresses)

    def localhost_rejected(self) -> bool:
        """Whether mode nftables rejects node ports on loopback (NP-12)."""
        return self.gate(LOCALHOST_GATE)

    def localhost_served(self, family: int) -> bool:
        """Whether the node daemon itself serves TCP node ports on a family's loopback address (NP-11).

        A list that includes loopback enables it: in 1.37 by a block that begins there, from 1.38 on by one that
        contains 127.0.0.1 or ::1 but not everything.
        """
        if not self.gate(LOCALHOST_GATE):
            return False
        texts = [block for text in self.node_port_addresses or () for block in KEYWORD_BLOCKS.get(text, (text,))]
        blocks = [parse_network(text) for text in texts if text != PRIMARY]
        loopback = LOOPBACK[family]
        ours = [b for b in blocks if len(b.address) == len(loopback) and b.prefix]
        if self.version < LOOPBACK_WITHIN_SINCE:
            return any(is_loopback(b.address) for b in ours)
        return any(contains(b, loopback) for b in ours)

    def node_port_networks(
        self, family: int, node_addresses: tuple[Address, ...], default: tuple[str, ...] = ()
    ) -> tuple[Network, ...]:
        """Blocks of a family whose local addresses accept node ports; empty means all (NP-01 to NP-03b).

        Keywords are expanded in place, `primary` to the node's addresses: it yields no block for a family without a
        known address, and a family without blocks is open on all its addresses.  `default` is that of the mode.
        """
        blocks: list[Network] = []
        for text in self.node_port_addresses or default:
            if text == PRIMARY:
                blocks += [Network(a, 8 * len(a)) for a in node_addresses if not is_loopback(a)]
            else:
                blocks += map(parse_network, KEYWORD_BLOCKS.get(text, (text,)))
        ours = tuple(n for n in blocks if len(n.address) == ADDRESS_BYTES[family])
        return () if any(n.prefix == 0 for n in ours) else ours

    def taking_node_ports(
        self,
        family: int,
        local: Iterable[Address],
        node_addresses: tuple[Address, ...],
        default: tuple[str, ...] = (),
        loopback: bool = False,
    ) -> frozenset[Address]:
        """The addresses in `local` of a family that accept node ports; loopback ones only if `loopback`."""
        networks = self.node_port_networks(family, node_addresses, default)
        return frozenset(
            a
            for a in local
            if len(a) == ADDRESS_BYTES[family]
            and (loopback or not is_loopback(a))
            and (not networks or any(contains(network, a) for network in networks))
        )
