"""The proxy modes as values: the backend of each, and properties of a mode that matter outside its backend.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.backends.base import Backend
from engine.backends.iptables import IptablesBackend
from engine.backends.ipvs import IpvsBackend
from engine.backends.nftables import NftablesBackend
from engine.backends.userspace import UserspaceBackend
from engine.config import PRIMARY, ProxyConfig
from engine.program import Program


@dataclass(frozen=True)
class Mode:
    """One proxy mode.

    `full_on_node_change`: a change of the Node causes a full sync (TOPO-07).
    `node_ports_on`: the default of nodePortAddresses, () for all addresses (NP-01 to NP-03).
    `node_ports_on_loopback`: the kernel can serve node ports on 127.0.0.0/8 (NP-05); `loopback_by_proxy`: it cannot, so
    they are served by the proxy's own sockets or rejected (NP-11, NP-12).
    `follows_service_networks`: rules depend on the cluster's ServiceCIDRs.
    `counts_services`: the gauge of missing local endpoints counts Services instead of their ports (MET-05).
    """

    name: str
    backend: Callable[[int, ProxyConfig], Backend[Program]]
    full_on_node_change: bool = False
    node_ports_on: tuple[str, ...] = ()
    node_ports_on_loopback: bool = False
    loopback_by_proxy: bool = False
    follows_service_networks: bool = False
    counts_services: bool = False


IPTABLES = Mode("iptables", IptablesBackend, full_on_node_change=True, node_ports_on_loopback=True)
IPVS = Mode("ipvs", IpvsBackend, counts_services=True)
NFTABLES = Mode(
    "nftables", NftablesBackend, node_ports_on=(PRIMARY,), loopback_by_proxy=True, follows_service_networks=True
)
USERSPACE = Mode("userspace", UserspaceBackend)

MODES = {mode.name: mode for mode in (IPTABLES, IPVS, NFTABLES, USERSPACE)}
