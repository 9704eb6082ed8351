"""The proxy modes as values: the backend of each, and properties of a mode that matter outside its backend.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.backends.interface import Backend
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

    Of the daemon: `own_masquerade`: masqueradeAll and masqueradeBit are those of the mode's own block, not of block
    iptables.  `needs_iptables`: a family is supported if the host's iptables works (DS-02).  `drops_invalid`: packets
    of invalid connections are dropped unless the kernel is liberal (MASQ-03).  `partial_syncs`: metrics distinguish
    full and partial syncs.  `deprecated_since`, `ends_since`: versions that announce its end (IPVS-22, IPVS-22a).
    """

    name: str
    backend: Callable[[int, ProxyConfig], Backend[Program]]
    full_on_node_change: bool = False
    node_ports_on: tuple[str, ...] = ()
    node_ports_on_loopback: bool = False
    loopback_by_proxy: bool = False
    follows_service_networks: bool = False
    counts_services: bool = False
    own_masquerade: bool = False
    needs_iptables: bool = False
    drops_invalid: bool = False
    partial_syncs: bool = True
    deprecated_since: tuple[int, int] | None = None
    ends_since: tuple[int, int] | None = None


IPTABLES = Mode(
    "iptables",
    IptablesBackend,
    full_on_node_change=True,
    node_ports_on_loopback=True,
    needs_iptables=True,
    drops_invalid=True,
)
IPVS = Mode(
    "ipvs",
    IpvsBackend,
    counts_services=True,
    needs_iptables=True,
    partial_syncs=False,
    deprecated_since=(1, 35),
    ends_since=(1, 37),
)
NFTABLES = Mode(
    "nftables",
    NftablesBackend,
    node_ports_on=(PRIMARY,),
    loopback_by_proxy=True,
    follows_service_networks=True,
    own_masquerade=True,
)
USERSPACE = Mode("userspace", UserspaceBackend)

MODES = {mode.name: mode for mode in (IPTABLES, IPVS, NFTABLES, USERSPACE)}
