"""A case's configuration, for the engine and for the oracle."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from engine.addresses import parse_network
from engine.config import NEWEST, ProxyConfig
from engine.server.config.duration import Duration
from harness.judge.oracle import Settings
from harness.judge.oracle.settings import packed

Texts = list[str] | None


class _Fields(msgspec.Struct, rename="camel"):
    """Fields that a case may configure, with their types; null means absent."""

    modes: list[str]
    ip_family: str | None = None
    node_name: str | None = None
    node_ips: dict[str, str] | None = msgspec.field(default=None, name="nodeIPs")
    local_addresses: Texts = None
    detect_local_mode: str | None = None
    detect_local: dict[str, str] | None = None
    bridge_interface: str | None = None
    interface_name_prefix: str | None = None
    cluster_cidr: str | Texts = msgspec.field(default=None, name="clusterCIDR")
    masquerade_all: bool | None = None
    masquerade_bit: Annotated[int, msgspec.Meta(ge=0, le=31)] | None = None
    node_port_addresses: Texts = None
    localhost_node_ports: bool | None = None
    service_cidrs: Texts = msgspec.field(default=None, name="serviceCIDRs")
    feature_gates: dict[str, bool] | None = None
    conntrack_tcp_be_liberal: bool | None = msgspec.field(default=None, name="conntrackTCPBeLiberal")
    ipvs: dict[str, Any] | None = None


FIELDS = frozenset(_Fields.__struct_encode_fields__)


def check(raw: dict[str, Any]) -> None:
    """ValueError for a field of the wrong type."""
    msgspec.convert(raw, _Fields)


_IPVS_TIMEOUTS = {"tcpTimeout": "tcp", "tcpFinTimeout": "tcp_fin", "udpTimeout": "udp"}
_IPVS_PACE = frozenset({"syncPeriod", "minSyncPeriod"})


def settings(raw: dict[str, Any], pod_cidrs: list[str], version: tuple[int, int] = NEWEST) -> Settings:
    """The oracle's configuration; `pod_cidrs` are those of the case's Node (DET-02)."""
    mode = raw.get("detectLocalMode") or "ClusterCIDR"
    addresses = raw.get("nodePortAddresses")
    cidr = raw.get("clusterCIDR") or ""
    if mode == "NodeCIDR":
        cidr = ",".join(pod_cidrs) or cidr
    return Settings(
        cluster_cidr=cidr if isinstance(cidr, str) else ",".join(cidr),
        service_cidrs=tuple(raw.get("serviceCIDRs") or ()),
        detect_local_mode=mode,
        pod_interface=_named(raw, "interfaceNamePrefix" if mode == "InterfaceNamePrefix" else "bridgeInterface"),
        masquerade_all=bool(raw.get("masqueradeAll")),
        node_port_addresses=None if addresses is None else tuple(addresses),
        localhost_node_ports=raw.get("localhostNodePorts") is not False,
        node_ips=tuple((raw.get("nodeIPs") or {}).values()),
        local_addresses=tuple(raw.get("localAddresses") or ()),
        feature_gates=raw.get("featureGates") or {},
        version=version,
    )


def proxy_config(given: Settings, version: tuple[int, int], raw: dict[str, Any] | None = None) -> ProxyConfig:
    """The engine's configuration, equal to the oracle's settings, with additional fields from `raw`."""
    raw = raw or {}
    bit = raw.get("masqueradeBit")
    return ProxyConfig(
        pod_networks=tuple(parse_network(text) for text in given.cluster_cidr.split(",") if text.strip()),
        service_networks=tuple(parse_network(text) for text in given.service_cidrs),
        masquerade_all=given.masquerade_all,
        masquerade_bit=14 if bit is None else bit,
        detect_local_mode=given.detect_local_mode,
        pod_interface=given.pod_interface,
        node_port_addresses=given.node_port_addresses,
        localhost_node_ports=given.localhost_node_ports,
        conntrack_tcp_be_liberal=bool(raw.get("conntrackTCPBeLiberal")),
        node_addresses=tuple(packed(text) for text in given.node_ips),
        local_addresses=tuple(packed(text) for text in given.local_addresses),
        feature_gates=given.feature_gates,
        version=version,
        **_ipvs(raw.get("ipvs") or {}),
    )


def _ipvs(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of ProxyConfig from KubeProxyConfiguration's block ipvs; ValueError for an unknown one."""
    unknown = given.keys() - _IPVS_TIMEOUTS.keys() - _IPVS_PACE - {"scheduler", "strictARP", "excludeCIDRs"}
    if unknown:
        raise ValueError(f"config.ipvs has no field {', '.join(sorted(unknown))}")
    found = {
        f"ipvs_{ours}_timeout_seconds": _seconds(given[theirs])
        for theirs, ours in _IPVS_TIMEOUTS.items()
        if given.get(theirs)
    }
    return found | {
        "ipvs_scheduler": given.get("scheduler") or "rr",
        "ipvs_strict_arp": bool(given.get("strictARP")),
        "ipvs_exclude_networks": tuple(parse_network(text) for text in given.get("excludeCIDRs") or ()),
    }


def _seconds(span: str | float) -> int:
    return int(Duration.parse(span).seconds if isinstance(span, str) else span)


def _named(raw: dict[str, Any], field: str) -> str:
    return raw.get(field) or (raw.get("detectLocal") or {}).get(field) or ""


def interface_of(origin: str, raw: dict[str, Any]) -> str:
    """The input interface of such a client's packets: for pods of this node the configured one, if any."""
    if origin != "pod-local":
        return "eth0"
    prefix = _named(raw, "interfaceNamePrefix")
    return _named(raw, "bridgeInterface") or (f"{prefix}0" if prefix else "pods0")
