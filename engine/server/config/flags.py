"""The command line flags as a table, with kube-proxy's names, types and meanings (CLI-02, CLI-03).

`targets` are the paths of the configuration fields that a flag sets; empty if `complete` reads the flag by its name.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.server.config.flag_values import (
    BOOL,
    DURATION,
    FLOAT,
    GATES,
    INT32,
    IP,
    IP_PORT,
    KUBE_VERSION,
    LEVEL,
    LIST,
    PORT_RANGE,
    QUANTITY,
    TEXT,
    VMODULE,
    ValueKind,
)

_LATER = "This flag is deprecated and will be removed in a future release."
_ALPHA = "needs gate LoggingAlphaOptions."


class Flag(NamedTuple):
    """One flag; `deprecated` is the message printed on use, `gone_since` the first version without the flag."""

    name: str
    kind: ValueKind
    targets: tuple[str, ...]
    help: str
    deprecated: str = ""
    gone_since: tuple[int, int] | None = None

    @property
    def logs(self) -> bool:
        """Whether the flag concerns logging and therefore applies together with --config (CFG-11)."""
        return bool(self.targets) and self.targets[0].startswith("logging.")


def _flag(
    name: str,
    kind: ValueKind,
    targets: str,
    help: str,
    deprecated: str = "",
    gone_since: tuple[int, int] | None = None,
) -> Flag:
    return Flag(name, kind, tuple(targets.split()), help, deprecated, gone_since)


def _instead(server: str) -> str:
    return f"{_LATER} Please use --{server}-bind-address instead."


PROCESS = (
    _flag("config", TEXT, "", "Configuration file; it replaces nearly all other flags."),
    _flag("write-config-to", TEXT, "", "Write the effective configuration to this file and exit."),
    _flag("cleanup", BOOL, "", "Remove every mode's rules from this node and exit."),
    _flag("init-only", BOOL, "", "Perform the steps that need full root privileges (sysctls), then exit."),
    _flag("master", TEXT, "", "URL of the API server; overrides that of the kubeconfig."),
    _flag("hostname-override", TEXT, "", "Name of this node, instead of the host name; overrides the file."),
    _flag(
        "kube-version", KUBE_VERSION, "", "Kubernetes version whose kube-proxy to follow, 1.30 to 1.38; default 1.37."
    ),
)
CLUSTER = (
    _flag("feature-gates", GATES, "feature_gates", "Feature gates, as Name=true|false,..."),
    _flag("kubeconfig", TEXT, "client_connection.kubeconfig", "Path of the kubeconfig; empty for in-cluster access."),
    _flag(
        "kube-api-content-type", TEXT, "client_connection.content_type", "Accepted without effect; JSON is requested."
    ),
    _flag("kube-api-burst", INT32, "client_connection.burst", "Burst of requests to the API server; 0 means 10."),
    _flag(
        "kube-api-qps",
        FLOAT,
        "client_connection.qps",
        "Requests per second beyond the burst; 0 means 5, negative no limit.",
    ),
    _flag("bind-address", IP, "bind_address", "Primary IP of the node, instead of that of the Node object."),
    _flag(
        "healthz-bind-address", IP_PORT, "healthz_bind_address", "Address of /healthz and /livez; empty disables them."
    ),
    _flag("metrics-bind-address", IP_PORT, "metrics_bind_address", "Address of /metrics and /proxyMode."),
    _flag("bind-address-hard-fail", BOOL, "bind_address_hard_fail", "Exit if one of these addresses cannot be bound."),
    _flag("profiling", BOOL, "enable_profiling", "Serve profiles on the metrics address."),
    _flag(
        "show-hidden-metrics-for-version",
        TEXT,
        "show_hidden_metrics_for_version",
        "Show metrics hidden since this version, which must be the previous minor version.",
    ),
    _flag(
        "config-sync-period",
        DURATION,
        "config_sync_period",
        "Accepted without effect; no periodic resync is needed.",
    ),
    _flag("oom-score-adj", INT32, "oom_score_adj", "oom_score_adj of this process, from -1000 to 1000."),
)
RULES = (
    _flag("proxy-mode", TEXT, "mode", "iptables (also when empty), ipvs or nftables."),
    _flag(
        "cluster-cidr", TEXT, "cluster_cidr", "Pod CIDR of the cluster, or two, one per family, separated by a comma."
    ),
    _flag("detect-local-mode", TEXT, "detect_local_mode", "How traffic from local pods is detected."),
    _flag(
        "pod-bridge-interface", TEXT, "detect_local.bridge_interface", "Bridge of the pods, in mode BridgeInterface."
    ),
    _flag(
        "pod-interface-name-prefix",
        TEXT,
        "detect_local.interface_name_prefix",
        "Prefix of the pods' interface names, in mode InterfaceNamePrefix.",
    ),
    _flag(
        "nodeport-addresses",
        LIST,
        "node_port_addresses",
        "Addresses that accept node ports: CIDRs, or 'primary' for the node's own; unset means all.",
    ),
    _flag(
        "masquerade-all",
        BOOL,
        "iptables.masquerade_all nftables.masquerade_all",
        "Masquerade all traffic to cluster IPs, in any mode.",
    ),
    _flag("iptables-masquerade-bit", INT32, "iptables.masquerade_bit", "Bit of the mark, in modes iptables and ipvs."),
    _flag(
        "iptables-localhost-nodeports",
        BOOL,
        "iptables.localhost_node_ports",
        "Accept node ports on 127.0.0.1, in mode iptables.",
    ),
    _flag(
        "iptables-sync-period",
        DURATION,
        "iptables.sync_period nftables.sync_period",
        "Maximum time between syncs, in modes iptables and nftables.",
    ),
    _flag(
        "iptables-min-sync-period",
        DURATION,
        "iptables.min_sync_period nftables.min_sync_period",
        "Minimum time between syncs, in modes iptables and nftables; 0 syncs every change at once.",
    ),
    _flag("ipvs-sync-period", DURATION, "ipvs.sync_period", "Maximum time between syncs, in mode ipvs."),
    _flag("ipvs-min-sync-period", DURATION, "ipvs.min_sync_period", "Minimum time between syncs, in mode ipvs."),
    _flag("ipvs-scheduler", TEXT, "ipvs.scheduler", "Scheduler of virtual servers; empty means rr."),
    _flag("ipvs-exclude-cidrs", LIST, "ipvs.exclude_cidrs", "CIDRs whose virtual servers are left alone."),
    _flag("ipvs-strict-arp", BOOL, "ipvs.strict_arp", "Set arp_ignore to 1 and arp_announce to 2."),
    _flag(
        "ipvs-tcp-timeout", DURATION, "ipvs.tcp_timeout", "Timeout of idle TCP connections; 0 keeps the current value."
    ),
    _flag("ipvs-tcpfin-timeout", DURATION, "ipvs.tcp_fin_timeout", "Timeout after a FIN; 0 keeps the current value."),
    _flag("ipvs-udp-timeout", DURATION, "ipvs.udp_timeout", "Timeout of UDP flows; 0 keeps the current value."),
)
CONNTRACK = (
    _flag(
        "conntrack-max-per-core", INT32, "conntrack.max_per_core", "Conntrack limit per CPU core; 0 keeps the limit."
    ),
    _flag("conntrack-min", INT32, "conntrack.min", "Minimum conntrack limit."),
    _flag(
        "conntrack-tcp-timeout-established",
        DURATION,
        "conntrack.tcp_established_timeout",
        "Timeout of idle established TCP connections; 0 keeps the current value.",
    ),
    _flag(
        "conntrack-tcp-timeout-close-wait",
        DURATION,
        "conntrack.tcp_close_wait_timeout",
        "Timeout of TCP connections in CLOSE_WAIT; 0 keeps the current value.",
    ),
    _flag("conntrack-tcp-be-liberal", BOOL, "conntrack.tcp_be_liberal", "Set nf_conntrack_tcp_be_liberal to 1."),
    _flag(
        "conntrack-udp-timeout",
        DURATION,
        "conntrack.udp_timeout",
        "Timeout of UDP flows without replies; 0 keeps the current value.",
    ),
    _flag(
        "conntrack-udp-timeout-stream",
        DURATION,
        "conntrack.udp_stream_timeout",
        "Timeout of UDP flows with replies; 0 keeps the current value.",
    ),
)
DEPRECATED = (
    _flag(
        "healthz-port",
        INT32,
        "",
        "Port of /healthz; 0 disables.",
        _instead("healthz"),
    ),
    _flag(
        "metrics-port",
        INT32,
        "",
        "Port of /metrics; 0 disables.",
        _instead("metrics"),
    ),
    _flag(
        "proxy-port-range",
        PORT_RANGE,
        "port_range",
        "No effect; removed in 1.31.",
        f"{_LATER} It has no effect.",
        gone_since=(1, 31),
    ),
)
LOGGING = (
    _flag("v", LEVEL, "logging.verbosity", "Log verbosity."),
    _flag("vmodule", VMODULE, "logging.vmodule", "Verbosity per source file, as pattern=N,... (text format only)."),
    _flag("logging-format", TEXT, "logging.format", "text or json."),
    _flag(
        "log-flush-frequency",
        DURATION,
        "logging.flush_frequency",
        "Accepted without effect; lines are written immediately.",
    ),
    _flag(
        "log-text-split-stream",
        BOOL,
        "logging.options.text.split_stream",
        f"Write info lines to stdout; {_ALPHA}",
    ),
    _flag(
        "log-text-info-buffer-size",
        QUANTITY,
        "logging.options.text.info_buffer_size",
        f"Accepted without effect; lines are written immediately; {_ALPHA}",
    ),
    _flag(
        "log-json-split-stream",
        BOOL,
        "logging.options.json.split_stream",
        f"Write info lines to stdout; {_ALPHA}",
    ),
    _flag(
        "log-json-info-buffer-size",
        QUANTITY,
        "logging.options.json.info_buffer_size",
        f"Accepted without effect; lines are written immediately; {_ALPHA}",
    ),
)
FLAGS = {each.name: each for each in (*PROCESS, *CLUSTER, *RULES, *CONNTRACK, *LOGGING, *DEPRECATED)}
BESIDE_CONFIG = ("hostname-override", "kube-version", "master", "cleanup", "init-only", "write-config-to")
"""Flags that apply together with --config, in addition to those of logging (CFG-11)."""
