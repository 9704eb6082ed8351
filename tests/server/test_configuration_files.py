"""A configuration file is read as kube-proxy reads it, and what is written is read back (CFG-01 to CFG-04, CFG-12)."""

from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine.server.config.configuration import API_VERSION, KIND, ConfigurationError, KubeProxyConfiguration
from engine.server.config.decode import decode, encode, with_defaults
from engine.server.config.duration import Duration
from tests.server.error_rows import configured
from tests.server.strategies import configurations

HEAD = f"apiVersion: {API_VERSION}\nkind: {KIND}\n"

DEFAULTS = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  {acceptContentTypes: "", burst: 10, contentType: application/vnd.kubernetes.protobuf, kubeconfig: "", qps: 5}
clusterCIDR: ""
configSyncPeriod: 15m0s
conntrack:
  maxPerCore: 32768
  min: 131072
  tcpBeLiberal: false
  tcpCloseWaitTimeout: 1h0m0s
  tcpEstablishedTimeout: 24h0m0s
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: 0.0.0.0:10256
hostnameOverride: ""
iptables: {localhostNodePorts: true, masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 30s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  {flushFrequency: 5s, format: text, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: 127.0.0.1:10249
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}
nodePortAddresses: null
oomScoreAdj: -999
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
"""


def read(text: str) -> KubeProxyConfiguration:
    decoded = decode(HEAD + text)
    assert decoded.complaint == ""
    return decoded.configuration


def test_an_empty_file_is_all_defaults():
    assert read("") == KubeProxyConfiguration()
    assert yaml.safe_load(encode(KubeProxyConfiguration())) == yaml.safe_load(DEFAULTS)


@given(configurations())
def test_a_written_configuration_is_read_back(configuration):
    assert decode(encode(configuration)) == (configuration, "")
    assert with_defaults(configuration) == configuration


@given(configurations())
def test_json_is_read_as_yaml(configuration):
    raw = msgspec.to_builtins(configuration, enc_hook=str) | {"apiVersion": API_VERSION, "kind": KIND}
    assert decode(msgspec.json.encode(raw)).configuration == configuration


FIELDS = {
    "zero durations are defaults": (
        "iptables: {syncPeriod: 0s, minSyncPeriod: 0s}\nipvs: {syncPeriod: 0s}\nnftables: {minSyncPeriod: '0'}\n"
        "configSyncPeriod: 0s",
        {},
    ),
    "explicit zeros that count": (
        "conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s}\niptables: {masqueradeBit: 0}\noomScoreAdj: 0",
        {
            "conntrack.max_per_core": 0,
            "conntrack.min": 0,
            "conntrack.tcp_established_timeout": Duration(0),
            "iptables.masquerade_bit": 0,
            "oom_score_adj": 0,
        },
    ),
    "null is absent": ("mode: null\nnodePortAddresses: null\niptables: null\nhealthzBindAddress: ~", {}),
    "blank is absent": (
        'bindAddress: ""\nclientConnection: {contentType: "", qps: 0, burst: 0}\nlogging: {format: ""}',
        {},
    ),
    "addresses get their ports": (
        "healthzBindAddress: 10.0.0.1\nmetricsBindAddress: '::1'",
        {"healthz_bind_address": "10.0.0.1:10256", "metrics_bind_address": "[::1]:10249"},
    ),
    "addresses with ports stay": (
        "healthzBindAddress: 10.0.0.1:1\nmetricsBindAddress: nonsense",
        {"healthz_bind_address": "10.0.0.1:1", "metrics_bind_address": "nonsense"},
    ),
    "IPv6 binding moves the defaults": (
        "bindAddress: 'fd00::1'",
        {"bind_address": "fd00::1", "healthz_bind_address": "[::]:10256", "metrics_bind_address": "[::1]:10249"},
    ),
    "IPv6 binding moves no address that is written": (
        "bindAddress: '::'\nhealthzBindAddress: 0.0.0.0:10256",
        {"bind_address": "::", "metrics_bind_address": "[::1]:10249"},
    ),
    "1.0 is 1": (
        "oomScoreAdj: 14.0\nclientConnection: {qps: 1e1}",
        {"oom_score_adj": 14, "client_connection.qps": 10.0},
    ),
    "durations": (
        "configSyncPeriod: 1h15m30.5s\nlogging: {flushFrequency: 250000000}",
        {"config_sync_period": Duration.parse("1h15m30.5s"), "logging.flush_frequency": Duration.parse("250ms")},
    ),
    "words that look like numbers": (
        "hostnameOverride: 12:30:45\nclusterCIDR: 2001-01-01",
        {"hostname_override": "12:30:45", "cluster_cidr": "2001-01-01"},
    ),
    "lists": (
        "nodePortAddresses: [primary]\nfeatureGates: {A: true}",
        {"node_port_addresses": ("primary",), "feature_gates": {"A": True}},
    ),
    "windows' own": (
        "winkernel: {enableDSR: true}\nwindowsRunAsService: true",
        {"winkernel.enable_dsr": True, "windows_run_as_service": True},
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name):
    text, fields = FIELDS[name]
    assert read(text) == configured(fields)


LENIENT = {
    "unknown fields": ("foo: 1\niptables: {bar: 2}", 'unknown field "foo", unknown field "iptables.bar"', {}),
    "case matters": ("Mode: ipvs", 'unknown field "Mode"', {}),
    "the last of two counts": (
        "mode: ipvs\nmode: nftables",
        'line 4: key "mode" already set in map',
        {"mode": "nftables"},
    ),
    "twice in a block": (
        "ipvs:\n  scheduler: rr\n  scheduler: lc",
        'line 5: key "scheduler" already set in map',
        {"ipvs.scheduler": "lc"},
    ),
}


@pytest.mark.parametrize("name", LENIENT)
def test_lenient_reading(name):
    text, complaint, fields = LENIENT[name]
    assert decode(HEAD + text) == (configured(fields), f"strict decoding error: {complaint}")


def test_unknown_fields_of_list_items_are_reported():
    assert decode(HEAD + "logging: {vmodule: [{filePattern: a, x: 1}]}").complaint.endswith('"logging.vmodule[0].x"')


BROKEN = {
    "no mapping": ("Twas bryllyg, and ye slythy toves", "yaml: line 4: could not find expected ':'"),
    "no quotes": ("bindAddress: ::", "yaml: line 3: mapping values are not allowed in this context"),
    "tab": ("ipvs:\n\tscheduler: rr", "found character that cannot start any token"),
    "a number for a text": (
        "mode: 1",
        "number into Go struct field KubeProxyConfiguration.mode of type v1alpha1.ProxyMode",
    ),
    "a text for a number": (
        "oomScoreAdj: '1'",
        "string into Go struct field KubeProxyConfiguration.oomScoreAdj of type int32",
    ),
    "33 bits": ("oomScoreAdj: 4294967296", "Expected `int` <= 2147483647 - at `$.oomScoreAdj`"),
    "a number for a duration": (
        "configSyncPeriod: 5",
        "number into Go struct field KubeProxyConfiguration.configSyncPeriod of type string",
    ),
    "no unit": ("configSyncPeriod: '5'", 'time: missing unit in duration "5" - at `$.configSyncPeriod`'),
    "blank within": ("configSyncPeriod: 1h 2m", 'time: unknown unit "h " in duration "1h 2m"'),
    "strange unit": ("configSyncPeriod: 5d", 'time: unknown unit "d" in duration "5d"'),
    "a list for a block": ("ipvs: []", "Expected `object`, got `array` - at `$.ipvs`"),
    "a text for a list": ("nodePortAddresses: 10.0.0.0/8", "Expected `array`, got `str`"),
    "a gate that is a number": ("featureGates: {A: 1}", "Expected `bool`, got `int`"),
    "python's own tags": ("mode: !!python/name:os.system", "could not determine a constructor"),
    "itself": ("featureGates: &a {b: *a}", "nested too deeply"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(name):
    text, message = BROKEN[name]
    with pytest.raises(ConfigurationError) as refused:
        decode(HEAD + text)
    assert str(refused.value).startswith("failed to decode: ")
    assert message in str(refused.value)


KINDS = {
    "": "Object 'Kind' is missing",
    "[]": "expected a mapping",
    "kind: KubeProxyConfiguration": "Object 'apiVersion' is missing",
    f"apiVersion: {API_VERSION}": "Object 'Kind' is missing",
    f"apiVersion: {API_VERSION}\nkind: Scheduler": 'no kind "Scheduler" is registered for version "kubeproxy',
    f"apiVersion: v1\nkind: {KIND}": f'no kind "{KIND}" is registered for version "v1"',
    "[" * 100_000: "nest",
}


@pytest.mark.parametrize("text", KINDS, ids=lambda text: text[:40])
def test_wrong_kinds(text):
    with pytest.raises(ConfigurationError, match=KINDS[text]):
        decode(text)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    for text in (data, HEAD.encode() + data):
        try:
            decode(text)
        except ConfigurationError as error:
            assert str(error).startswith("failed to decode: ")


@given(st.integers(-(2**63), 2**63 - 1))
def test_durations_are_read_back(nanoseconds):
    assert Duration.parse(str(Duration(nanoseconds))) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "-", "+", ".", "1", "1x", "s", "1.s.", "1h-1m", " 1s", "1s ", "9223372036854775808ns", "١s"]
)
def test_invalid_durations_are_rejected(text):
    with pytest.raises(ValueError, match="time: "):
        Duration.parse(text)


def test_durations_print_as_go_prints_them():
    texts = ["0s", "1ns", "1.1µs", "2.2ms", "3.3s", "4m5s", "4m5.001s", "5h6m7.001s", "8m0.000000001s", "-1m30s"]
    assert [str(Duration.parse(text)) for text in texts] == texts
    assert str(Duration(-(2**63))) == "-2562047h47m16.854775808s"
