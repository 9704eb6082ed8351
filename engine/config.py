"""What a proxy is told about its node and cluster, apart from the events."""

from __future__ import annotations

from dataclasses import dataclass

from engine.model import Network


@dataclass(frozen=True)
class ProxyConfig:
    """`pod_networks`: the pod CIDRs, at most one a family, by which local traffic is told (DET-01).

    `node_port_addresses`: which of the host's addresses take node ports; none of a family is all of
    that family.  Timeouts of 0 leave the kernel's own.  `ipvs_exclude_networks`: virtual servers on
    these addresses are someone else's.
    """

    pod_networks: tuple[Network, ...] = ()
    service_networks: tuple[Network, ...] = ()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    node_port_addresses: tuple[Network, ...] = ()
    ipvs_scheduler: str = "rr"
    ipvs_strict_arp: bool = False
    ipvs_exclude_networks: tuple[Network, ...] = ()
    ipvs_tcp_timeout_seconds: int = 0
    ipvs_tcp_fin_timeout_seconds: int = 0
    ipvs_udp_timeout_seconds: int = 0

    def pods(self, family: int) -> Network | None:
        """The pod CIDR of a family, None for the no-op detector."""
        size = 4 if family == 4 else 16
        return next((n for n in self.pod_networks if len(n.address) == size), None)

    def services(self, family: int) -> tuple[Network, ...]:
        """Service CIDRs of a family; empty when unknown."""
        size = 4 if family == 4 else 16
        return tuple(n for n in self.service_networks if len(n.address) == size)
