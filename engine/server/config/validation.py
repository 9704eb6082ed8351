"""Validation of a configuration, with kube-proxy's own messages (CFG-05 to CFG-08, MODE-02).

    validate(configuration, version) -> every error, in the order of kube-proxy's checks

Each check is a small generator of errors for one block.  Checks use the field names of the file; `field_paths` maps
them to the names of each version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine.config import NEWEST, NODE_PORT_KEYWORDS, PRIMARY, gate_default
from engine.server.config import gates
from engine.server.config.configuration import (
    BLOCKS,
    DEFAULT_BLOCK,
    IPVS,
    Conntrack,
    IPTables,
    KubeProxyConfiguration,
    NFTables,
    effective_block,
)
from engine.server.config.field_errors import duplicate, invalid, unsupported
from engine.server.config.field_paths import PUBLIC_SINCE, field_path
from engine.server.config.netaddr import is_dual_stack, parse_cidr, parse_ip, port_number, split_host_port
from engine.server.config.port_range import is_port_range
from engine.server.config.validation_logging import logging_errors

DETECT_LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", "")
ONE_PAIR_SINCE = (1, 32)
"""One pair of sync periods for all modes, and clusterCIDR as a list (CFG-05a, CFG-07a)."""
KEYWORDS_SINCE = (1, 37)
NOT_NEGATIVE = "must be greater than or equal to 0"
ONE_CIDR = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
TWO_CIDRS = "must be a valid DualStack CIDR (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"
MANY_CIDRS = "only one CIDR allowed or a valid DualStack CIDR (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"
CIDR_PAIR = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]"
CIDR_LIST = "must be a comma-delimited list of CIDR blocks"
CIDR_OR_KEYWORD = "must be a valid CIDR or one of the keywords 'primary', 'localhost', 'all'"

Path = Callable[[str], str]


def validate(configuration: KubeProxyConfiguration, version: tuple[int, int] = NEWEST) -> tuple[str, ...]:
    """All errors of a configuration by the rules of a Kubernetes version; empty if it is valid."""
    c, path = configuration, field_path(version)
    common = version >= ONE_PAIR_SINCE
    return (
        *_gates(c, path, version),
        *_masquerade_bit(c.iptables, "iptables", path),
        *(() if common else _periods(c.iptables, "iptables", path)),
        *_mode_block(c, path, common),
        *_conntrack(c.conntrack, path),
        *(_oom_score(c, path) if common else ()),
        *_mode(c, path, version),
        *_not_negative({path("clientConnection.burst"): c.client_connection.burst}),
        *(_effective_periods(c, path) if common else _oom_score(c, path)),
        *_config_sync_period(c, path),
        *_addresses(c, path),
        *(_cluster_cidrs(c, path, version) if common else _cluster_cidr(c.cluster_cidr, path)),
        *(() if common else _port_range(c.port_range, path)),
        *_node_port_addresses(c.node_port_addresses, path("nodePortAddresses"), version),
        *_hidden_metrics(c.show_hidden_metrics_for_version, path("showHiddenMetricsForVersion"), version),
        *_detect_local(c, path),
        *logging_errors(c.logging, c.feature_gates, path("logging")),
    )


def _gates(c: KubeProxyConfiguration, path: Path, version: tuple[int, int]) -> Iterator[str]:
    complaint = gates.complaint(c.feature_gates, version)
    if complaint:
        yield invalid(path("featureGates"), c.feature_gates, complaint)


def _mode_block(c: KubeProxyConfiguration, path: Path, common: bool) -> Iterator[str]:
    """Errors of the block of the configured mode; other blocks are not checked."""
    if c.mode not in BLOCKS or c.mode == DEFAULT_BLOCK:  # the default block is always checked
        return
    block = getattr(c, c.mode)
    if isinstance(block, NFTables):
        yield from _masquerade_bit(block, c.mode, path)
    yield from () if common else _periods(block, c.mode, path)
    if isinstance(block, IPVS):
        yield from _ipvs(block, path)


def _effective_periods(c: KubeProxyConfiguration, path: Path) -> Iterator[str]:
    mode = effective_block(c.mode)
    yield from _periods(getattr(c, mode), mode, path)


def _masquerade_bit(block: IPTables | NFTables, mode: str, path: Path) -> Iterator[str]:
    if not 0 <= block.masquerade_bit <= 31:
        yield invalid(path(f"{mode}.masqueradeBit"), block.masquerade_bit, "must be within the range [0, 31]")


def _periods(block: IPTables | IPVS | NFTables, mode: str, path: Path) -> Iterator[str]:
    longest, shortest = path(f"{mode}.syncPeriod"), path(f"{mode}.minSyncPeriod")
    if block.sync_period <= 0:
        yield invalid(longest, block.sync_period, "must be greater than 0")
    yield from _not_negative({shortest: block.min_sync_period})
    if block.min_sync_period > block.sync_period:
        # kube-proxy shows the other value, too.
        yield invalid(longest, block.min_sync_period, f"must be greater than or equal to {shortest}")


def _ipvs(block: IPVS, path: Path) -> Iterator[str]:
    yield from _not_negative(
        {
            path("ipvs.tcpTimeout"): block.tcp_timeout,
            path("ipvs.tcpFinTimeout"): block.tcp_fin_timeout,
            path("ipvs.udpTimeout"): block.udp_timeout,
        }
    )
    for n, cidr in enumerate(block.exclude_cidrs):
        if parse_cidr(cidr) is None:
            yield invalid(f"{path('ipvs.excludeCIDRs')}[{n}]", cidr, "must be a valid CIDR")


def _conntrack(block: Conntrack, path: Path) -> Iterator[str]:
    yield from _not_negative(
        {
            path("conntrack.maxPerCore"): block.max_per_core,
            path("conntrack.min"): block.min,
            path("conntrack.tcpEstablishedTimeout"): block.tcp_established_timeout,
            path("conntrack.tcpCloseWaitTimeout"): block.tcp_close_wait_timeout,
            path("conntrack.udpTimeout"): block.udp_timeout,
            path("conntrack.udpStreamTimeout"): block.udp_stream_timeout,
        }
    )


def _not_negative(values: dict[str, int]) -> Iterator[str]:
    yield from (invalid(path, value, NOT_NEGATIVE) for path, value in values.items() if value < 0)


def _mode(c: KubeProxyConfiguration, path: Path, version: tuple[int, int]) -> Iterator[str]:
    gated = {"ipvs": "KubeProxyIPVS", "nftables": "NFTablesProxyMode"}
    on = [mode for mode, gate in gated.items() if c.feature_gates.get(gate, gate_default(gate, version))]
    modes = ["iptables", *on]
    if c.mode not in (*modes, ""):
        choice = f"must be {', '.join(modes)} or blank (blank means the best-available proxy [currently iptables])"
        yield invalid(path("mode"), c.mode, choice)


def _oom_score(c: KubeProxyConfiguration, path: Path) -> Iterator[str]:
    if not -1000 <= c.oom_score_adj <= 1000:
        yield invalid(path("oomScoreAdj"), c.oom_score_adj, "must be within the range [-1000, 1000]")


def _config_sync_period(c: KubeProxyConfiguration, path: Path) -> Iterator[str]:
    if c.config_sync_period <= 0:
        yield invalid(path("configSyncPeriod"), c.config_sync_period, "must be greater than 0")


def _addresses(c: KubeProxyConfiguration, path: Path) -> Iterator[str]:
    if parse_ip(c.bind_address) is None:
        yield invalid(path("bindAddress"), c.bind_address, "not a valid textual representation of an IP address")
    if c.healthz_bind_address:
        yield from _host_port(c.healthz_bind_address, path("healthzBindAddress"))
    # Unlike healthz, an empty metrics address is an error, although its flag's help says that it disables metrics.
    yield from _host_port(c.metrics_bind_address, path("metricsBindAddress"))


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


def _cluster_cidr(text: str, path: Path) -> Iterator[str]:
    """Up to 1.31: one text, in every mode of detection."""
    cidrs = text.split(",")
    if len(cidrs) > 2:
        yield invalid(path("clusterCIDR"), text, MANY_CIDRS)
    elif len(cidrs) == 2 and not is_dual_stack(cidrs):
        yield invalid(path("clusterCIDR"), text, TWO_CIDRS)
    elif text and len(cidrs) == 1 and parse_cidr(text) is None:
        yield invalid(path("clusterCIDR"), text, ONE_CIDR)


def _cluster_cidrs(c: KubeProxyConfiguration, path: Path, version: tuple[int, int]) -> Iterator[str]:
    """From 1.32 on: a list, validated item by item, and only if local traffic is detected by it."""
    if c.detect_local_mode not in ("", "ClusterCIDR") or not c.cluster_cidr:
        return
    name, cidrs = path("clusterCIDR"), c.cluster_cidr.split(",")
    bad = [n for n, cidr in enumerate(cidrs) if parse_cidr(cidr) is None]
    if version >= PUBLIC_SINCE:
        yield from [invalid(name, c.cluster_cidr, CIDR_LIST)] if bad else ()
    else:
        yield from (invalid(f"{name}[{n}]", cidrs[n], ONE_CIDR) for n in bad)
    if len(cidrs) > 2 or (len(cidrs) == 2 and not bad and not is_dual_stack(cidrs)):
        yield invalid(name, c.cluster_cidr if version >= PUBLIC_SINCE else cidrs, CIDR_PAIR)


def _port_range(text: str, path: Path) -> Iterator[str]:
    if not is_port_range(text):
        yield invalid(path("portRange"), text, "must be a valid port range (e.g. 300-2000)")


def _node_port_addresses(texts: tuple[str, ...], path: str, version: tuple[int, int]) -> Iterator[str]:
    if version >= KEYWORDS_SINCE:
        yield from _keywords_and_cidrs(texts, path)
        return
    for n, text in enumerate(texts):
        if text == PRIMARY and version >= (1, 31):
            if len(texts) > 1:
                yield invalid(f"{path}[{n}]", text, "can't use both 'primary' and CIDRs")
            return
        if parse_cidr(text) is None:
            yield invalid(f"{path}[{n}]", text, "must be a valid CIDR")


def _keywords_and_cidrs(texts: tuple[str, ...], path: str) -> Iterator[str]:
    """Keywords and blocks in any order, each keyword once (CFG-08a)."""
    for n, text in enumerate(texts):
        if text in NODE_PORT_KEYWORDS:
            if text in texts[:n]:
                yield duplicate(f"{path}[{n}]", text)
        elif parse_cidr(text) is None:
            yield invalid(f"{path}[{n}]", text, CIDR_OR_KEYWORD)


def _hidden_metrics(text: str, path: str, version: tuple[int, int]) -> Iterator[str]:
    previous = f"{version[0]}.{version[1] - 1}"
    if text in ("", previous):
        return
    if version >= (1, 36):
        field = "showHiddenMetricsForVersion"
        detail = f"must be omitted or have the value '{previous}'; only the previous minor version is allowed"
        yield invalid(path, text, f"invalid {field}: {invalid(field, text, detail)}")
    else:
        detail = f"--show-hidden-metrics-for-version must be omitted or have the value '{previous}'. "
        yield invalid(path, text, detail + "Only the previous minor version is allowed")


def _detect_local(c: KubeProxyConfiguration, path: Path) -> Iterator[str]:
    mode, names = c.detect_local_mode, c.detect_local
    if mode not in DETECT_LOCAL_MODES:
        yield unsupported(path("detectLocalMode"), mode, DETECT_LOCAL_MODES)
    if mode == "BridgeInterface" and not names.bridge_interface:
        yield invalid(path("detectLocal.bridgeInterface"), "", "must not be empty")
    if mode == "InterfaceNamePrefix" and not names.interface_name_prefix:
        yield invalid(path("detectLocal.interfaceNamePrefix"), "", "must not be empty")
