"""Flags are spelt, read and refused as kube-proxy's are (CLI-01 to CLI-04)."""

from __future__ import annotations

import pytest

from engine.server.config.command_line import FlagError, command, parse
from engine.server.config.configuration import VModule
from engine.server.config.duration import Duration
from engine.server.config.flags import FLAGS

FLAGS_OF_KUBE_PROXY = """
    bind-address bind-address-hard-fail cleanup cluster-cidr config config-sync-period conntrack-max-per-core
    conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established
    conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode feature-gates healthz-bind-address
    hostname-override init-only iptables-localhost-nodeports iptables-masquerade-bit iptables-min-sync-period
    iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp
    ipvs-sync-period ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst
    kube-api-content-type kube-api-qps kubeconfig masquerade-all master metrics-bind-address
    nodeport-addresses oom-score-adj pod-bridge-interface pod-interface-name-prefix profiling proxy-mode
    show-hidden-metrics-for-version write-config-to v vmodule logging-format log-flush-frequency
    log-text-split-stream log-text-info-buffer-size log-json-split-stream log-json-info-buffer-size
    healthz-port metrics-port proxy-port-range
""".split()

READ = {
    "--proxy-mode=ipvs": {"proxy-mode": "ipvs"},
    "--proxy-mode ipvs": {"proxy-mode": "ipvs"},
    "--proxy_mode ipvs": {"proxy-mode": "ipvs"},
    "--proxy-mode=": {"proxy-mode": ""},
    "--master --cleanup": {"master": "--cleanup"},
    "--oom-score-adj -998": {"oom-score-adj": -998},
    "--iptables-masquerade-bit 0x1f": {"iptables-masquerade-bit": 31},
    "--conntrack-min 010": {"conntrack-min": 8},
    "--conntrack-min 1_000": {"conntrack-min": 1000},
    "--kube-api-qps 1e2": {"kube-api-qps": 100.0},
    "--cleanup": {"cleanup": True},
    "--cleanup=false": {"cleanup": False},
    "--cleanup=F --cleanup=T": {"cleanup": True},
    "-v 4": {"v": 4},
    "-v=4": {"v": 4},
    "-v4 --v 6": {"v": 6},
    "--vmodule a*=4,b=2 --vmodule c=1": {"vmodule": (VModule("a*", 4), VModule("b", 2), VModule("c", 1))},
    "--ipvs-sync-period 1m30s": {"ipvs-sync-period": Duration.of(90)},
    "--nodeport-addresses primary": {"nodeport-addresses": ("primary",)},
    "--nodeport-addresses a,b --nodeport-addresses c": {"nodeport-addresses": ("a", "b", "c")},
    '--ipvs-exclude-cidrs "a,b",c': {"ipvs-exclude-cidrs": ("a,b", "c")},
    "--feature-gates A=true,B=0 --feature-gates=A=f": {"feature-gates": {"A": False, "B": False}},
    "--bind-address ::": {"bind-address": "::"},
    "--healthz-bind-address 10.0.0.1": {"healthz-bind-address": "10.0.0.1"},
    "--metrics-bind-address [::]:1": {"metrics-bind-address": "[::]:1"},
    "--log-json-info-buffer-size 64Ki": {"log-json-info-buffer-size": 65536},
    "--kube-version 1.30 --proxy-port-range 1-2": {"kube-version": (1, 30), "proxy-port-range": "1-2"},
}

REFUSED = {
    "--nonsense": "unknown flag: --nonsense",
    "--nonsense=1": "unknown flag: --nonsense",
    "--proxy": "unknown flag: --proxy",
    "--nftables-sync-period 1s": "unknown flag: --nftables-sync-period",
    "-x": "unknown shorthand flag: 'x' in -x",
    "start now": '"proxy-engine" does not take any arguments, got ["start" "now"]',
    "--cleanup false": '"proxy-engine" does not take any arguments, got ["false"]',
    "-- --cleanup": '"proxy-engine" does not take any arguments, got ["--cleanup"]',
    "--config": "flag needs an argument: --config",
    "-v": "flag needs an argument: -v",
    "--v=-1": 'invalid argument "-1" for "-v, --v" flag: strconv.ParseUint: parsing "-1": invalid syntax',
    "--cleanup=no": 'invalid argument "no" for "--cleanup" flag: strconv.ParseBool: parsing "no": invalid syntax',
    "--v 9999999999": 'strconv.ParseUint: parsing "9999999999": value out of range',
    "--oom-score-adj 1__0": 'strconv.ParseInt: parsing "1__0": invalid syntax',
    "--oom-score-adj 08": 'strconv.ParseInt: parsing "08": invalid syntax',
    "--oom-score-adj 4294967296": "value out of range",
    "--kube-api-qps x": 'strconv.ParseFloat: parsing "x": invalid syntax',
    "--ipvs-sync-period 5": 'invalid argument "5" for "--ipvs-sync-period" flag: time: missing unit in duration "5"',
    "--bind-address 10.0.0.1:80": '"10.0.0.1:80" is not a valid IP address',
    "--healthz-bind-address nonsense": '"nonsense" is not in a valid format (ip or ip:port)',
    "--healthz-bind-address localhost:1": '"localhost" is not a valid IP address',
    "--metrics-bind-address 10.0.0.1:http": '"http" is not a valid number',
    "--feature-gates A": "malformed pair, expect string=bool",
    "--feature-gates A=x": 'invalid value of A: x, err: strconv.ParseBool: parsing "x": invalid syntax',
    "--vmodule a": '"a" does not have the pattern=N format',
    "--proxy-port-range x --kube-version 1.30": "is not a valid port range",
    "--proxy-port-range 1-2": "unknown flag: --proxy-port-range",
    "--kube-version v1.31.4 --proxy-port-range x": "unknown flag: --proxy-port-range",
    "--log-text-info-buffer-size x": "is not a quantity",
}


def test_every_flag_of_kube_proxy_and_no_other():
    assert sorted(FLAGS) == sorted([*FLAGS_OF_KUBE_PROXY, "kube-version"])


@pytest.mark.parametrize("line", READ)
def test_flags_are_parsed(line):
    assert parse(line.split(" ")).values == READ[line]


@pytest.mark.parametrize("line", REFUSED)
def test_invalid_settings_are_rejected(line):
    with pytest.raises(FlagError) as error:
        parse(line.split(" "))
    assert REFUSED[line] in str(error.value)


def test_deprecated_flags_say_so():
    line = parse(["--healthz-port=0", "--proxy-port-range", "", "--cleanup"], (1, 30))
    assert line.deprecations == [
        "Flag --healthz-port has been deprecated, This flag is deprecated and will be removed in a future release. "
        "Please use --healthz-bind-address instead.",
        "Flag --proxy-port-range has been deprecated, This flag is deprecated and will be removed in a future release. "
        "It has no effect.",
    ]


def test_help_names_every_flag():
    page = command().get_help(command().make_context("proxy-engine", []))
    assert [name for name in FLAGS if f"--{name}" not in page] == []
    assert "Exit status" in page and "Examples" in page
