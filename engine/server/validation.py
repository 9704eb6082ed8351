"""What makes a configuration unusable, in kube-proxy's own words (CFG-05 to CFG-08, MODE-02).

    validate(configuration) -> every error, in the order of kube-proxy's checks

Each check is a small generator of errors for one block.  Paths are those of kube-proxy 1.30, whose
internal names differ from the file's.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.config import GATES_ON_SINCE, NEWEST, PRIMARY
from engine.server import gates
from engine.server.configuration import IPVS, Conntrack, IPTables, KubeProxyConfiguration, NFTables
from engine.server.field_errors import invalid, unsupported
from engine.server.netaddr import is_dual_stack, parse_cidr, parse_ip, port_number, split_host_port
from engine.server.port_range import is_port_range
from engine.server.validation_logging import logging_errors

ROOT = "KubeProxyConfiguration"
DETECT_LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", "")
NOT_NEGATIVE = "must be greater than or equal to 0"
ONE_CIDR = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
TWO_CIDRS = "must be a valid DualStack CIDR (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"
MANY_CIDRS = "only one CIDR allowed or a valid DualStack CIDR (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"


def validate(configuration: KubeProxyConfiguration, version: tuple[int, int] = NEWEST) -> tuple[str, ...]:
    """Every error of a configuration, empty when there is none; `version` is the Kubernetes one that judges."""
    c = configuration
    return (
        *_gates(c),
        *_masquerading(c.iptables, f"{ROOT}.KubeProxyIPTablesConfiguration"),
        *(_ipvs(c.ipvs, f"{ROOT}.KubeProxyIPVSConfiguration") if c.mode == "ipvs" else ()),
        *(_masquerading(c.nftables, f"{ROOT}.KubeProxyNFTablesConfiguration") if c.mode == "nftables" else ()),
        *_conntrack(c.conntrack, f"{ROOT}.KubeProxyConntrackConfiguration"),
        *_mode(c, version),
        *_not_negative({f"{ROOT}.ClientConnection.Burst": c.client_connection.burst}),
        *_process(c),
        *_addresses(c),
        *_cluster_cidr(c.cluster_cidr),
        *_port_range(c.port_range),
        *_node_port_addresses(c.node_port_addresses, version),
        *_hidden_metrics(c.show_hidden_metrics_for_version, version),
        *_detect_local(c),
        *logging_errors(c.logging, c.feature_gates, f"{ROOT}.logging"),
    )


def _gates(c: KubeProxyConfiguration) -> Iterator[str]:
    complaint = gates.complaint(c.feature_gates)
    if complaint:
        yield invalid(f"{ROOT}.featureGates", c.feature_gates, complaint)


def _masquerading(block: IPTables | NFTables, path: str) -> Iterator[str]:
    if not 0 <= block.masquerade_bit <= 31:
        yield invalid(f"{path}.MasqueradeBit", block.masquerade_bit, "must be within the range [0, 31]")
    yield from _periods(block, path)


def _periods(block: IPTables | IPVS | NFTables, path: str) -> Iterator[str]:
    if block.sync_period <= 0:
        yield invalid(f"{path}.SyncPeriod", block.sync_period, "must be greater than 0")
    yield from _not_negative({f"{path}.MinSyncPeriod": block.min_sync_period})
    if block.min_sync_period > block.sync_period:
        # The value shown is the other one, there as here.
        detail = f"must be greater than or equal to {path}.MinSyncPeriod"
        yield invalid(f"{path}.SyncPeriod", block.min_sync_period, detail)


def _ipvs(block: IPVS, path: str) -> Iterator[str]:
    yield from _periods(block, path)
    yield from _not_negative(
        {
            f"{path}.TCPTimeout": block.tcp_timeout,
            f"{path}.TCPFinTimeout": block.tcp_fin_timeout,
            f"{path}.UDPTimeout": block.udp_timeout,
        }
    )
    for n, cidr in enumerate(block.exclude_cidrs):
        if parse_cidr(cidr) is None:
            yield invalid(f"{path}.ExcludeCidrs[{n}]", cidr, "must be a valid CIDR")


def _conntrack(block: Conntrack, path: str) -> Iterator[str]:
    yield from _not_negative(
        {
            f"{path}.MaxPerCore": block.max_per_core,
            f"{path}.Min": block.min,
            f"{path}.TCPEstablishedTimeout": block.tcp_established_timeout,
            f"{path}.TCPCloseWaitTimeout": block.tcp_close_wait_timeout,
            f"{path}.UDPTimeout": block.udp_timeout,
            f"{path}.UDPStreamTimeout": block.udp_stream_timeout,
        }
    )


def _not_negative(values: dict[str, int]) -> Iterator[str]:
    yield from (invalid(path, value, NOT_NEGATIVE) for path, value in values.items() if value < 0)


def _mode(c: KubeProxyConfiguration, version: tuple[int, int]) -> Iterator[str]:
    modes = ["iptables", "ipvs"]
    if c.feature_gates.get("NFTablesProxyMode", version >= GATES_ON_SINCE["NFTablesProxyMode"]):
        modes.append("nftables")
    if c.mode not in (*modes, ""):
        choice = f"must be {', '.join(modes)} or blank (blank means the best-available proxy [currently iptables])"
        yield invalid(f"{ROOT}.Mode.ProxyMode", c.mode, choice)


def _process(c: KubeProxyConfiguration) -> Iterator[str]:
    if not -1000 <= c.oom_score_adj <= 1000:
        yield invalid(f"{ROOT}.OOMScoreAdj", c.oom_score_adj, "must be within the range [-1000, 1000]")
    if c.config_sync_period <= 0:
        yield invalid(f"{ROOT}.ConfigSyncPeriod", c.config_sync_period, "must be greater than 0")


def _addresses(c: KubeProxyConfiguration) -> Iterator[str]:
    if parse_ip(c.bind_address) is None:
        yield invalid(f"{ROOT}.BindAddress", c.bind_address, "not a valid textual representation of an IP address")
    if c.healthz_bind_address:
        yield from _host_port(c.healthz_bind_address, f"{ROOT}.HealthzBindAddress")
    # Unlike healthz, an empty metrics address is an error, although its flag is said to disable it.
    yield from _host_port(c.metrics_bind_address, f"{ROOT}.MetricsBindAddress")


def _host_port(text: str, path: str) -> Iterator[str]:
    parts = split_host_port(text)
    if parts is None:
        yield invalid(path, text, "must be IP:port")
        return
    host, port = parts
    if parse_ip(host) is None:
        yield invalid(path, host, "must be a valid IP")
    if port_number(port) is None:
        yield invalid(path, port, "must be a valid port")


def _cluster_cidr(text: str) -> Iterator[str]:
    cidrs = text.split(",")
    if len(cidrs) > 2:
        yield invalid(f"{ROOT}.ClusterCIDR", text, MANY_CIDRS)
    elif len(cidrs) == 2 and not is_dual_stack(cidrs):
        yield invalid(f"{ROOT}.ClusterCIDR", text, TWO_CIDRS)
    elif text and len(cidrs) == 1 and parse_cidr(text) is None:
        yield invalid(f"{ROOT}.ClusterCIDR", text, ONE_CIDR)


def _port_range(text: str) -> Iterator[str]:
    if not is_port_range(text):
        yield invalid(f"{ROOT}.PortRange", text, "must be a valid port range (e.g. 300-2000)")


def _node_port_addresses(texts: tuple[str, ...], version: tuple[int, int]) -> Iterator[str]:
    path = f"{ROOT}.NodePortAddresses"
    for n, text in enumerate(texts):
        if text == PRIMARY and version >= (1, 31):
            if len(texts) > 1:
                yield invalid(f"{path}[{n}]", text, "can't use both 'primary' and CIDRs")
            return
        if parse_cidr(text) is None:
            yield invalid(f"{path}[{n}]", text, "must be a valid CIDR")


def _hidden_metrics(text: str, version: tuple[int, int]) -> Iterator[str]:
    previous = f"{version[0]}.{version[1] - 1}"
    if text not in ("", previous):
        detail = f"--show-hidden-metrics-for-version must be omitted or have the value '{previous}'. "
        yield invalid(
            f"{ROOT}.ShowHiddenMetricsForVersion", text, detail + "Only the previous minor version is allowed"
        )


def _detect_local(c: KubeProxyConfiguration) -> Iterator[str]:
    mode, names = c.detect_local_mode, c.detect_local
    if mode not in DETECT_LOCAL_MODES:
        yield unsupported(f"{ROOT}.DetectLocalMode", mode, DETECT_LOCAL_MODES)
    if mode == "BridgeInterface" and not names.bridge_interface:
        yield invalid(f"{ROOT}.InterfaceName", "", "must not be empty")
    if mode == "InterfaceNamePrefix" and not names.interface_name_prefix:
        yield invalid(f"{ROOT}.InterfacePrefix", "", "must not be empty")
