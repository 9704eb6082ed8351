"""The names of fields in validation errors, by Kubernetes version (CFG-05).

Checks use the names of the file, `conntrack.maxPerCore`, as kube-proxy does from 1.38 on; before, its errors used
the names of its internal types, which were moved in 1.32.
"""

from __future__ import annotations

from collections.abc import Callable

PUBLIC_SINCE = (1, 38)
INTERNAL_ROOT = "KubeProxyConfiguration"
_LINUX_SINCE = (1, 32)
_BLOCKS = {
    "iptables": "KubeProxyIPTablesConfiguration",
    "ipvs": "KubeProxyIPVSConfiguration",
    "nftables": "KubeProxyNFTablesConfiguration",
    "conntrack": "KubeProxyConntrackConfiguration",
    "clientConnection": "ClientConnection",
}
_FIELDS = {
    "mode": "Mode.ProxyMode",
    "clusterCIDR": "ClusterCIDR",
    "oomScoreAdj": "OOMScoreAdj",
    "detectLocal.bridgeInterface": "InterfaceName",
    "detectLocal.interfaceNamePrefix": "InterfacePrefix",
    "excludeCIDRs": "ExcludeCidrs",
    "tcpTimeout": "TCPTimeout",
    "tcpFinTimeout": "TCPFinTimeout",
    "udpTimeout": "UDPTimeout",
    "tcpEstablishedTimeout": "TCPEstablishedTimeout",
    "tcpCloseWaitTimeout": "TCPCloseWaitTimeout",
    "udpStreamTimeout": "UDPStreamTimeout",
}
_UNCHANGED = ("featureGates", "logging")
_PERIODS = ("syncPeriod", "minSyncPeriod")


def field_path(version: tuple[int, int]) -> Callable[[str], str]:
    """A function from a field's path in the file to its name in errors of this version."""
    if version >= PUBLIC_SINCE:
        return lambda path: path
    lead = _root_of_1_32 if version >= _LINUX_SINCE else _root_of_1_30
    return lambda path: f"{INTERNAL_ROOT}.{lead(path)}"


def _root_of_1_30(path: str) -> str:
    if path in _UNCHANGED:
        return path
    block, _, leaf = path.rpartition(".")
    name = _FIELDS.get(path) or _FIELDS.get(leaf) or leaf[:1].upper() + leaf[1:]
    return f"{_BLOCKS[block]}.{name}" if block in _BLOCKS else name


def _root_of_1_32(path: str) -> str:
    """One pair of sync periods for all modes; Linux-only fields and local traffic detection have their own blocks."""
    if path.rpartition(".")[2] in _PERIODS:
        path = path.rpartition(".")[2]
    name = _root_of_1_30(path)
    if path == "oomScoreAdj" or path.startswith("conntrack."):
        return f"KubeProxyLinuxConfiguration.{name}"
    if path.startswith("detectLocal."):
        return f"DetectLocalConfiguration.{name}"
    return "DetectLocalConfiguration.ClusterCIDRs" if path == "clusterCIDR" else name
