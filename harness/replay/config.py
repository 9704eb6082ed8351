"""The proxy's configuration, as far as a recording says it."""

from __future__ import annotations

from engine.addresses import parse_network
from engine.config import ProxyConfig
from engine.model import Network
from harness.recording import RecordingError


def proxy_config(source: str, cluster: dict, pod_networks: tuple[Network, ...] | None) -> ProxyConfig:
    """The caller's pod CIDRs where it gives some, else what the header says of the cluster."""
    try:
        pods = tuple(parse_network(text) for text in (cluster.get("clusterCIDR") or "").split(",") if text)
        services = tuple(parse_network(text) for text in cluster.get("serviceCIDRs") or ())
    except ValueError as error:
        raise RecordingError(source, 1, f"cluster: {error}") from None
    return ProxyConfig(pod_networks=pods if pod_networks is None else pod_networks, service_networks=services)
