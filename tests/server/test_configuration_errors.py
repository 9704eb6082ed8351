"""Every way in which a configuration is refused, with kube-proxy's own text (CFG-05 to CFG-08, MODE-02)."""

from __future__ import annotations

import pytest
from hypothesis import given

from engine.server.config.complete import with_flags
from engine.server.config.configuration import KubeProxyConfiguration, Logging, LogOptions, OutputRouting, VModule
from engine.server.config.duration import Duration
from engine.server.config.field_errors import aggregate
from engine.server.config.quantity import Quantity
from engine.server.config.validation import validate
from tests.server.error_rows import ALPHA, BLANK, BLOCKS, ROOT, SECOND, Row, bad, configured
from tests.server.strategies import configurations

PROCESS = [
    Row(
        "OOM score -1001",
        {"oom_score_adj": -1001},
        [bad("OOMScoreAdj", "-1001", "must be within the range [-1000, 1000]")],
    ),
    Row(
        "OOM score 1001",
        {"oom_score_adj": 1001},
        [bad("OOMScoreAdj", "1001", "must be within the range [-1000, 1000]")],
    ),
    Row("OOM score at its ends", {"oom_score_adj": -1000}, []),
    Row(
        "config sync period 0",
        {"config_sync_period": Duration(0)},
        [bad("ConfigSyncPeriod", '"0s"', "must be greater than 0")],
    ),
    Row(
        "config sync period below 0",
        {"config_sync_period": Duration(-SECOND)},
        [bad("ConfigSyncPeriod", '"-1s"', "must be greater than 0")],
    ),
    Row("hidden metrics of the version before", {"show_hidden_metrics_for_version": "1.30"}, []),
    Row(
        "hidden metrics of any other",
        {"show_hidden_metrics_for_version": "1.29"},
        [
            bad(
                "ShowHiddenMetricsForVersion",
                '"1.29"',
                "--show-hidden-metrics-for-version must be omitted or have the "
                "value '1.30'. Only the previous minor version is allowed",
            )
        ],
    ),
    Row(
        "unknown gate",
        {"feature_gates": {"Nonsense": True, "AllAlpha": False}},
        [
            bad(
                "featureGates",
                '{"AllAlpha":false,"Nonsense":true}',
                "unrecognized feature gate: Nonsense",
            )
        ],
    ),
    Row("known gates", {"feature_gates": {"TopologyAwareHints": False, "NFTablesProxyMode": True}}, []),
]

ADDRESSES = [
    Row(
        "bind address no IP",
        {"bind_address": "10.10.12.11:2000"},
        [bad("BindAddress", '"10.10.12.11:2000"', "not a valid textual representation of an IP address")],
    ),
    Row("bind address IPv6", {"bind_address": "fd00::1"}, []),
    Row("leading zeros are decimal", {"bind_address": "010.0.0.1"}, []),
    Row(
        "healthz no port",
        {"healthz_bind_address": "0.0.0.0"},
        [bad("HealthzBindAddress", '"0.0.0.0"', "must be IP:port")],
    ),
    Row("healthz empty is off", {"healthz_bind_address": ""}, []),
    Row(
        "metrics empty is an error", {"metrics_bind_address": ""}, [bad("MetricsBindAddress", '""', "must be IP:port")]
    ),
    Row(
        "healthz host",
        {"healthz_bind_address": "localhost:10256"},
        [bad("HealthzBindAddress", '"localhost"', "must be a valid IP")],
    ),
    Row(
        "metrics port 0",
        {"metrics_bind_address": "127.0.0.1:0"},
        [bad("MetricsBindAddress", '"0"', "must be a valid port")],
    ),
    Row(
        "metrics port 65536",
        {"metrics_bind_address": "127.0.0.1:65536"},
        [bad("MetricsBindAddress", '"65536"', "must be a valid port")],
    ),
    Row("metrics port 65535", {"metrics_bind_address": "[::1]:65535"}, []),
    Row(
        "both wrong",
        {"metrics_bind_address": "x:y"},
        [
            bad("MetricsBindAddress", '"x"', "must be a valid IP"),
            bad("MetricsBindAddress", '"y"', "must be a valid port"),
        ],
    ),
    Row(
        "IPv6 without brackets",
        {"healthz_bind_address": "::1:10256"},
        [bad("HealthzBindAddress", '"::1:10256"', "must be IP:port")],
    ),
]

ONE = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
TWO = "must be a valid DualStack CIDR (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"
MANY = "only one CIDR allowed or a valid DualStack CIDR (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"
CIDRS = [
    Row("one", {"cluster_cidr": "10.0.0.0/8"}, []),
    Row("two families", {"cluster_cidr": "fd00::/48,10.0.0.0/8"}, []),
    Row(
        "mapped IPv4 is IPv4",
        {"cluster_cidr": "::ffff:10.0.0.0/104,10.0.0.0/8"},
        [bad("ClusterCIDR", '"::ffff:10.0.0.0/104,10.0.0.0/8"', TWO)],
    ),
    Row("no block", {"cluster_cidr": "192.168.59.103"}, [bad("ClusterCIDR", '"192.168.59.103"', ONE)]),
    Row("prefix too long", {"cluster_cidr": "10.0.0.0/33"}, [bad("ClusterCIDR", '"10.0.0.0/33"', ONE)]),
    Row(
        "twice one family",
        {"cluster_cidr": "10.0.0.0/8,172.16.0.0/12"},
        [bad("ClusterCIDR", '"10.0.0.0/8,172.16.0.0/12"', TWO)],
    ),
    Row(
        "a blank between",
        {"cluster_cidr": "10.0.0.0/8, fd00::/48"},
        [bad("ClusterCIDR", '"10.0.0.0/8, fd00::/48"', TWO)],
    ),
    Row("a comma at the end", {"cluster_cidr": "10.0.0.0/8,"}, [bad("ClusterCIDR", '"10.0.0.0/8,"', TWO)]),
    Row(
        "three",
        {"cluster_cidr": "10.0.0.0/8,fd00::/48,11.0.0.0/8"},
        [bad("ClusterCIDR", '"10.0.0.0/8,fd00::/48,11.0.0.0/8"', MANY)],
    ),
    Row(
        "port range",
        {"port_range": "20-10"},
        [bad("PortRange", '"20-10"', "must be a valid port range (e.g. 300-2000)")],
    ),
    Row(
        "port range words",
        {"port_range": "a-b"},
        [bad("PortRange", '"a-b"', "must be a valid port range (e.g. 300-2000)")],
    ),
    Row("port ranges", {"port_range": " 300-2000 "}, []),
    Row("port and offset", {"port_range": "300+10"}, []),
    Row(
        "node ports",
        {"node_port_addresses": ("10.0.0.0/8", "10.0.0.1", "x")},
        [
            bad("NodePortAddresses[1]", '"10.0.0.1"', "must be a valid CIDR"),
            bad("NodePortAddresses[2]", '"x"', "must be a valid CIDR"),
        ],
    ),
    Row("primary", {"node_port_addresses": ("primary",)}, []),
    Row(
        "primary first",
        {"node_port_addresses": ("primary", "10.0.0.0/8")},
        [bad("NodePortAddresses[0]", '"primary"', "can't use both 'primary' and CIDRs")],
    ),
    Row(
        "primary last",
        {"node_port_addresses": ("10.0.0.0/8", "primary")},
        [bad("NodePortAddresses[1]", '"primary"', "can't use both 'primary' and CIDRs")],
    ),
    Row(
        "primary before 1.31",
        {"node_port_addresses": ("primary",)},
        [bad("NodePortAddresses[0]", '"primary"', "must be a valid CIDR")],
        (1, 30),
    ),
]

MODES = [
    *(Row(f"mode {mode or 'blank'}", {"mode": mode}, []) for mode in ("", "iptables", "ipvs", "nftables")),
    *(
        Row(
            f"mode {mode}",
            {"mode": mode},
            [bad("Mode.ProxyMode", f'"{mode}"', f"must be iptables, ipvs, nftables {BLANK}")],
        )
        for mode in ("userspace", "kernelspace", "IPTables", "ipvs ", "non-existing")
    ),
    Row(
        "userspace in 1.30",
        {"mode": "userspace"},
        [bad("Mode.ProxyMode", '"userspace"', f"must be iptables, ipvs {BLANK}")],
        (1, 30),
    ),
    Row(
        "nftables in 1.30",
        {"mode": "nftables"},
        [bad("Mode.ProxyMode", '"nftables"', f"must be iptables, ipvs {BLANK}")],
        (1, 30),
    ),
    Row(
        "nftables in 1.30 by its gate", {"mode": "nftables", "feature_gates": {"NFTablesProxyMode": True}}, [], (1, 30)
    ),
    Row(
        "detect local",
        {"detect_local_mode": "Guess"},
        [
            f'{ROOT}.DetectLocalMode: Unsupported value: "Guess": supported values: "ClusterCIDR", "NodeCIDR", '
            '"BridgeInterface", "InterfaceNamePrefix", ""'
        ],
    ),
    Row(
        "bridge without a name",
        {"detect_local_mode": "BridgeInterface"},
        [bad("InterfaceName", '""', "must not be empty")],
    ),
    Row(
        "prefix without a name",
        {"detect_local_mode": "InterfaceNamePrefix"},
        [bad("InterfacePrefix", '""', "must not be empty")],
    ),
    Row(
        "a name of any length",
        {"detect_local_mode": "BridgeInterface", "detect_local.bridge_interface": "averyveryverylongname"},
        [],
    ),
]

SPLIT = LogOptions(text=OutputRouting(True, Quantity(1)), json=OutputRouting(True, Quantity(1)))
LOGS = [
    Row(
        "flush",
        {"logging.flush_frequency": Duration(-1)},
        [bad("logging.flushFrequency", '"-1ns"', "Must be greater than zero")],
    ),
    Row("format", {"logging.format": "xml"}, [bad("logging.format", '"xml"', "Unsupported log format")]),
    Row("verbosity", {"logging.verbosity": 2**31}, [bad("logging.verbosity", "2147483648", "Must be <= 2147483647")]),
    Row(
        "patterns in JSON",
        {"logging": Logging("json", vmodule=(VModule("a", 1),))},
        [f"{ROOT}.logging.vmodule: Forbidden: Only supported for text log format"],
    ),
    Row(
        "patterns",
        {"logging.vmodule": (VModule("", 1), VModule("a=b", 1), VModule("a", 2**31))},
        [
            f"{ROOT}.logging.vmodule[0]: Required value: File pattern must not be empty",
            bad("logging.vmodule[1]", '"a=b"', "File pattern must not contain equal sign or comma"),
            bad("logging.vmodule[2]", "2147483648", "Must be <= 2147483647"),
        ],
    ),
    Row(
        "alpha options",
        {"logging.options": SPLIT},
        [
            f"{ROOT}.logging.options.{each}: {ALPHA}"
            for each in ("text.splitStream", "text.infoBufferSize", "json.splitStream", "json.infoBufferSize")
        ],
    ),
    Row("alpha options by their gate", {"logging.options": SPLIT, "feature_gates": {"LoggingAlphaOptions": True}}, []),
]

PUBLIC = [
    Row(field, fields, [f"{field}: {error}"], (1, 38))
    for field, fields, error in (
        (
            "iptables.masqueradeBit",
            {"iptables.masquerade_bit": 32},
            "Invalid value: 32: must be within the range [0, 31]",
        ),
        (
            "iptables.syncPeriod",
            {"iptables.sync_period": Duration(0), "iptables.min_sync_period": Duration(0)},
            'Invalid value: "0s": must be greater than 0',
        ),
        (
            "nftables.minSyncPeriod",
            {"mode": "nftables", "nftables.min_sync_period": Duration(-SECOND)},
            'Invalid value: "-1s": must be greater than or equal to 0',
        ),
        (
            "ipvs.excludeCIDRs[1]",
            {"mode": "ipvs", "ipvs.exclude_cidrs": ("10.0.0.0/8", "x")},
            'Invalid value: "x": must be a valid CIDR',
        ),
        (
            "conntrack.maxPerCore",
            {"conntrack.max_per_core": -1},
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        ("oomScoreAdj", {"oom_score_adj": 1001}, "Invalid value: 1001: must be within the range [-1000, 1000]"),
        (
            "clientConnection.burst",
            {"client_connection.burst": -1},
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "detectLocal.bridgeInterface",
            {"detect_local_mode": "BridgeInterface"},
            'Invalid value: "": must not be empty',
        ),
        (
            "clusterCIDR",
            {"cluster_cidr": "10.0.0.0/8,foo"},
            'Invalid value: "10.0.0.0/8,foo": must be a comma-delimited list of CIDR blocks',
        ),
        (
            "nodePortAddresses[1]",
            {"node_port_addresses": ("all", "Localhost")},
            "Invalid value: \"Localhost\": must be a valid CIDR or one of the keywords 'primary', 'localhost', 'all'",
        ),
        (
            "featureGates",
            {"feature_gates": {"NFTablesProxyMode": True}},
            'Invalid value: {"NFTablesProxyMode":true}: unrecognized feature gate: NFTablesProxyMode',
        ),
        ("logging.format", {"logging.format": "xml"}, 'Invalid value: "xml": Unsupported log format'),
    )
]
"""Since 1.38 errors name fields as the file does (CFG-05c)."""

ROWS = [*BLOCKS, *PROCESS, *ADDRESSES, *CIDRS, *MODES, *LOGS, *PUBLIC]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_errors(row: Row):
    assert list(validate(configured(row.fields), row.version)) == row.errors


@given(configurations())
def test_anything_can_be_judged(configuration):
    assert all(error.startswith(f"{ROOT}.") for error in validate(configuration, (1, 37)))
    assert not any(error.startswith(f"{ROOT}.") for error in validate(configuration, (1, 38)))


def test_the_defaults_are_valid_in_every_version():
    assert [validate(KubeProxyConfiguration(), (1, minor)) for minor in range(30, 39)] == [()] * 9


def test_all_errors_are_reported_at_once():
    wrong = with_flags(KubeProxyConfiguration(), {"oom-score-adj": 2000, "config-sync-period": Duration(0)})
    errors = validate(wrong)
    assert len(errors) == 2
    assert aggregate(errors) == f"[{errors[0]}, {errors[1]}]"
    assert aggregate([*errors[:1], *errors[:1]]) == errors[0]
