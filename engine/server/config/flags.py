"""The command line's flags, as a table: kube-proxy's names, kinds and meanings (CLI-02, CLI-03).

`targets` are paths in the configuration that a flag sets, empty where `complete` reads it by its name.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.server.flag_values import (
    BOOL,
    DURATION,
    FLOAT,
    GATES,
    INT32,
    IP,
    IP_PORT,
    LEVEL,
    LIST,
    PORT_RANGE,
    QUANTITY,
    TEXT,
    VMODULE,
    Kind,
)

_LATER = "This flag is deprecated and will be removed in a future release."
_ALPHA = "needs gate LoggingAlphaOptions."


class Flag(NamedTuple):
    """One flag; `deprecated` is the advice printed when it is used."""

    name: str
    kind: Kind
    targets: tuple[str, ...]
    help: str
    deprecated: str = ""

    @property
    def logs(self) -> bool:
        """Whether it concerns logging, and so counts beside --config too (CFG-11)."""
        return bool(self.targets) and self.targets[0].startswith("logging.")


def _flag(name: str, kind: Kind, targets: str, help: str, deprecated: str = "") -> Flag:
    return Flag(name, kind, tuple(targets.split()), help, deprecated)


def _instead(server: str) -> str:
    return f"{_LATER} Please use --{server}-bind-address instead."


PROCESS = (
    _flag("config", TEXT, "", "The configuration file; it replaces nearly every other flag."),
    _flag("write-config-to", TEXT, "", "Write the effective configuration to this file and exit."),
    _flag("cleanup", BOOL, "", "Remove every mode's rules from this node and exit."),
    _flag("init-only", BOOL, "", "Take the steps that need full root privileges (sysctls), then exit."),
    _flag("master", TEXT, "", "The API server's URL, before the kubeconfig's."),
    _flag("hostname-override", TEXT, "", "This node's name, else the host's name; wins over the file's."),
)
CLUSTER = (
    _flag("feature-gates", GATES, "feature_gates", "Feature gates, as Name=true|false,..."),
    _flag("kubeconfig", TEXT, "client_connection.kubeconfig", "The kubeconfig file; empty is in-cluster."),
    _flag("kube-api-content-type", TEXT, "client_connection.content_type", "Accepted; JSON is asked for."),
    _flag("kube-api-burst", INT32, "client_connection.burst", "Requests that the API server may get at once; 0 is 10."),
    _flag("kube-api-qps", FLOAT, "client_connection.qps", "Requests a second after those; 0 is 5, negative no limit."),
    _flag("bind-address", IP, "bind_address", "The node's primary IP, where it isn't the Node object's."),
    _flag("healthz-bind-address", IP_PORT, "healthz_bind_address", "Where /healthz and /livez answer; empty: nowhere."),
    _flag("metrics-bind-address", IP_PORT, "metrics_bind_address", "Where /metrics and /proxyMode answer."),
    _flag("bind-address-hard-fail", BOOL, "bind_address_hard_fail", "Exit when such an address can't be listened on."),
    _flag("profiling", BOOL, "enable_profiling", "Serve profiles beside the metrics."),
    _flag(
        "show-hidden-metrics-for-version",
        TEXT,
        "show_hidden_metrics_for_version",
        "Show metrics hidden since this version, which must be the previous minor one.",
    ),
    _flag(
        "config-sync-period",
        DURATION,
        "config_sync_period",
        "Accepted; nothing is lost that a resync would bring back.",
    ),
    _flag("oom-score-adj", INT32, "oom_score_adj", "This process's oom_score_adj, from -1000 to 1000."),
)
RULES = (
    _flag("proxy-mode", TEXT, "mode", "iptables (also when empty), ipvs or nftables."),
    _flag("cluster-cidr", TEXT, "cluster_cidr", "Pod CIDR of the cluster; two, one a family, with a comma."),
    _flag("detect-local-mode", TEXT, "detect_local_mode", "How traffic of this node's pods is told."),
    _flag("pod-bridge-interface", TEXT, "detect_local.bridge_interface", "The pods' bridge, in mode BridgeInterface."),
    _flag(
        "pod-interface-name-prefix",
        TEXT,
        "detect_local.interface_name_prefix",
        "What pods' interfaces begin with, in mode InterfaceNamePrefix.",
    ),
    _flag(
        "nodeport-addresses",
        LIST,
        "node_port_addresses",
        "Where node ports are open: CIDRs, or 'primary' for the node's own addresses; unset is everywhere.",
    ),
    _flag(
        "masquerade-all",
        BOOL,
        "iptables.masquerade_all nftables.masquerade_all",
        "Masquerade all traffic to cluster IPs, in any mode.",
    ),
    _flag("iptables-masquerade-bit", INT32, "iptables.masquerade_bit", "The mark's bit, in modes iptables and ipvs."),
    _flag(
        "iptables-localhost-nodeports",
        BOOL,
        "iptables.localhost_node_ports",
        "Node ports answer on 127.0.0.1, in mode iptables.",
    ),
    _flag(
        "iptables-sync-period",
        DURATION,
        "iptables.sync_period nftables.sync_period",
        "Longest time between syncs, in modes iptables and nftables.",
    ),
    _flag(
        "iptables-min-sync-period",
        DURATION,
        "iptables.min_sync_period nftables.min_sync_period",
        "Shortest time between syncs, in modes iptables and nftables; 0 syncs every change at once.",
    ),
    _flag("ipvs-sync-period", DURATION, "ipvs.sync_period", "Longest time between syncs, in mode ipvs."),
    _flag("ipvs-min-sync-period", DURATION, "ipvs.min_sync_period", "Shortest time between syncs, in mode ipvs."),
    _flag("ipvs-scheduler", TEXT, "ipvs.scheduler", "The scheduler of virtual servers; empty is rr."),
    _flag("ipvs-exclude-cidrs", LIST, "ipvs.exclude_cidrs", "Blocks whose virtual servers are someone else's."),
    _flag("ipvs-strict-arp", BOOL, "ipvs.strict_arp", "Set arp_ignore to 1 and arp_announce to 2."),
    _flag("ipvs-tcp-timeout", DURATION, "ipvs.tcp_timeout", "Idle TCP connections; 0 leaves it."),
    _flag("ipvs-tcpfin-timeout", DURATION, "ipvs.tcp_fin_timeout", "TCP connections after a FIN; 0 leaves it."),
    _flag("ipvs-udp-timeout", DURATION, "ipvs.udp_timeout", "UDP packets; 0 leaves it."),
)
CONNTRACK = (
    _flag("conntrack-max-per-core", INT32, "conntrack.max_per_core", "Connections tracked a CPU core; 0 leaves it."),
    _flag("conntrack-min", INT32, "conntrack.min", "Connections tracked at least."),
    _flag(
        "conntrack-tcp-timeout-established",
        DURATION,
        "conntrack.tcp_established_timeout",
        "Idle established TCP connections; 0 leaves it.",
    ),
    _flag(
        "conntrack-tcp-timeout-close-wait",
        DURATION,
        "conntrack.tcp_close_wait_timeout",
        "TCP connections in CLOSE_WAIT; 0 leaves it.",
    ),
    _flag("conntrack-tcp-be-liberal", BOOL, "conntrack.tcp_be_liberal", "Set nf_conntrack_tcp_be_liberal to 1."),
    _flag("conntrack-udp-timeout", DURATION, "conntrack.udp_timeout", "UDP without replies; 0 leaves it."),
    _flag("conntrack-udp-timeout-stream", DURATION, "conntrack.udp_stream_timeout", "UDP with replies; 0 leaves it."),
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
    _flag("proxy-port-range", PORT_RANGE, "port_range", "Without effect.", f"{_LATER} It has no effect."),
)
LOGGING = (
    _flag("v", LEVEL, "logging.verbosity", "Log verbosity."),
    _flag("vmodule", VMODULE, "logging.vmodule", "Verbosity by source file, as pattern=N,... (text format only)."),
    _flag("logging-format", TEXT, "logging.format", "text or json."),
    _flag("log-flush-frequency", DURATION, "logging.flush_frequency", "Accepted; lines are written at once."),
    _flag(
        "log-text-split-stream",
        BOOL,
        "logging.options.text.split_stream",
        f"Info lines to stdout; {_ALPHA}",
    ),
    _flag(
        "log-text-info-buffer-size",
        QUANTITY,
        "logging.options.text.info_buffer_size",
        f"Accepted; lines are written at once; {_ALPHA}",
    ),
    _flag(
        "log-json-split-stream",
        BOOL,
        "logging.options.json.split_stream",
        f"Info lines to stdout; {_ALPHA}",
    ),
    _flag(
        "log-json-info-buffer-size",
        QUANTITY,
        "logging.options.json.info_buffer_size",
        f"Accepted; lines are written at once; {_ALPHA}",
    ),
)
FLAGS = {each.name: each for each in (*PROCESS, *CLUSTER, *RULES, *CONNTRACK, *LOGGING, *DEPRECATED)}
BESIDE_CONFIG = ("hostname-override", "master", "cleanup", "init-only", "write-config-to")
"""Flags that count beside --config, with those of logging (CFG-11)."""
