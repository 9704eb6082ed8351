"""The parts of the proxy's configuration that a recording contains."""

from __future__ import annotations

from engine.addresses import parse_network
from engine.config import NEWEST, ProxyConfig
from engine.model import Network
from harness.log import RecordingError
from harness.log.events import JsonObject


def proxy_config(
    source: str, cluster: JsonObject, pod_networks: tuple[Network, ...] | None, version: tuple[int, int] = NEWEST
) -> ProxyConfig:
    """The given pod CIDRs, else those in the recording's header."""
    try:
        pods = tuple(parse_network(text) for text in (cluster.get("clusterCIDR") or "").split(",") if text)
        services = tuple(parse_network(text) for text in cluster.get("serviceCIDRs") or ())
    except ValueError as error:
        raise RecordingError(source, 1, f"cluster: {error}") from None
    return ProxyConfig(
        pod_networks=pods if pod_networks is None else pod_networks, service_networks=services, version=version
    )
