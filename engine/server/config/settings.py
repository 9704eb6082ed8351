"""Converts a configuration to the settings of the engine and its loop."""

from __future__ import annotations

from typing import NamedTuple

from engine.addresses import parse_network
from engine.config import ProxyConfig
from engine.model import Address, Network, Node
from engine.server.api.node_ips import NodeIPs
from engine.server.config.configuration import (
    IPVS,
    IPTables,
    KubeProxyConfiguration,
    NFTables,
    effective_block,
    masquerade_block,
)
from engine.server.config.options import EngineOptions


class Periods(NamedTuple):
    """Maximum and minimum time between syncs, in seconds."""

    sync_seconds: float
    min_sync_seconds: float


def periods(configuration: KubeProxyConfiguration) -> Periods:
    """Sync periods of the configured mode."""
    block = _block(configuration)
    return Periods(block.sync_period.seconds, block.min_sync_period.seconds)


def to_proxy_config(
    options: EngineOptions,
    node: Node | None,
    node_ips: NodeIPs,
    local_addresses: tuple[Address, ...] = (),
    service_networks: tuple[Network, ...] = (),
    kernel_be_liberal: bool = False,
) -> ProxyConfig:
    """The engine's configuration on this node.

    `node` provides the pod CIDRs in mode NodeCIDR (DET-02), `service_networks` come from ServiceCIDR objects
    (CIP-02), `local_addresses` from the machine.  `kernel_be_liberal`: the sysctl nf_conntrack_tcp_be_liberal is
    set, which disables the drop of invalid packets like the configuration field (MASQ-03).
    """
    configuration = options.configuration
    masquerade: IPTables | NFTables = getattr(configuration, masquerade_block(configuration.mode))
    return ProxyConfig(
        pod_networks=pod_networks(configuration, node),
        service_networks=service_networks,
        masquerade_all=masquerade.masquerade_all,
        masquerade_bit=masquerade.masquerade_bit,
        detect_local_mode=configuration.detect_local_mode,
        pod_interface=_pod_interface(configuration),
        node_port_addresses=configuration.node_port_addresses or None,
        localhost_node_ports=configuration.iptables.localhost_node_ports,
        node_addresses=node_addresses(node_ips),
        local_addresses=local_addresses,
        ipvs_scheduler=configuration.ipvs.scheduler or "rr",
        ipvs_strict_arp=configuration.ipvs.strict_arp,
        ipvs_exclude_networks=tuple(map(parse_network, configuration.ipvs.exclude_cidrs)),
        ipvs_tcp_timeout_seconds=int(configuration.ipvs.tcp_timeout.seconds),
        ipvs_tcp_fin_timeout_seconds=int(configuration.ipvs.tcp_fin_timeout.seconds),
        ipvs_udp_timeout_seconds=int(configuration.ipvs.udp_timeout.seconds),
        conntrack_tcp_be_liberal=configuration.conntrack.tcp_be_liberal or kernel_be_liberal,
        feature_gates=configuration.feature_gates,
        version=options.version,
    )


def node_addresses(node_ips: NodeIPs) -> tuple[Address, ...]:
    """One address per family, that of the primary family first."""
    return tuple(node_ips.addresses[family] for family in ((4, 6) if node_ips.family == 4 else (6, 4)))


def _block(configuration: KubeProxyConfiguration) -> IPTables | IPVS | NFTables:
    found: IPTables | IPVS | NFTables = getattr(configuration, effective_block(configuration.mode))
    return found


def pod_networks(configuration: KubeProxyConfiguration, node: Node | None) -> tuple[Network, ...]:
    """The first pod CIDR of each family, from the mode's source (DET-01, DET-02)."""
    if configuration.detect_local_mode == "NodeCIDR":
        listed = node.pod_networks if node else ()
    elif configuration.detect_local_mode in ("", "ClusterCIDR") and configuration.cluster_cidr:
        listed = tuple(map(parse_network, configuration.cluster_cidr.split(",")))
    else:
        listed = ()
    return tuple({len(network.address): network for network in reversed(listed)}.values())


def _pod_interface(configuration: KubeProxyConfiguration) -> str:
    names = configuration.detect_local
    named = {"BridgeInterface": names.bridge_interface, "InterfaceNamePrefix": names.interface_name_prefix}
    return named.get(configuration.detect_local_mode, "")
