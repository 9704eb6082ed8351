"""Precedence of file and flags, defaults of blank fields, the node's name (CFG-11, CFG-14, CFG-15, MODE-01)."""

from __future__ import annotations

import pytest

from engine.server.config.command_line import parse
from engine.server.config.complete import Completed, Note, complete
from engine.server.config.configuration import API_VERSION, KIND, ConfigurationError, VModule
from engine.server.config.duration import Duration
from engine.server.config.flags import BESIDE_CONFIG, FLAGS

HEAD = f"apiVersion: {API_VERSION}\nkind: {KIND}\n"
PATH = "/etc/proxy.yaml"


def completed(line: str, file: str | None = None, host: str = "Worker-1 ") -> Completed:
    def read_file(path: str) -> bytes:
        if path != PATH or file is None:
            raise FileNotFoundError(2, "No such file or directory")
        return (HEAD + file).encode()

    return complete(parse(line.split()), read_file, lambda: host)


def configuration(line: str, file: str | None = None):
    return completed(line, file).options.configuration


def refusal(line: str, file: str | None = None, host: str = "h") -> str:
    with pytest.raises(ConfigurationError) as error:
        completed(line, file, host)
    return str(error.value)


def test_the_defaults_are_iptables_and_cluster_cidr():
    options, notes = completed("")
    assert (options.configuration.mode, options.configuration.detect_local_mode) == ("iptables", "ClusterCIDR")
    assert options.default_mode and Note("Using iptables proxy") not in notes, "since 1.37 an error and an Event"
    options, notes = completed("--kube-version 1.36")
    assert options.version == (1, 36) and Note("Using iptables proxy") in notes
    assert options.configuration.node_port_addresses == ()


def test_a_requested_mode_is_not_replaced():
    options, notes = completed("--proxy-mode ipvs --detect-local-mode NodeCIDR")
    assert (options.configuration.mode, options.configuration.detect_local_mode) == ("ipvs", "NodeCIDR")
    assert [note.message for note in notes] == ["DetectLocalMode"]


def test_nftables_opens_node_ports_on_the_nodes_own_addresses():
    assert configuration("--proxy-mode nftables").node_port_addresses == ("primary",)
    assert configuration("--proxy-mode nftables --nodeport-addresses 10.0.0.0/8").node_port_addresses == ("10.0.0.0/8",)


def test_a_file_replaces_flags():
    flags = "--proxy-mode ipvs --nodeport-addresses 10.0.0.0/8 --oom-score-adj 5 --feature-gates AllAlpha=true"
    assert configuration(f"--config {PATH} {flags}", "") == configuration("")
    assert configuration(f"--config {PATH} --proxy-mode ipvs", "mode: nftables").mode == "nftables"


def test_flags_beside_a_file():
    line = f"--config {PATH} -v 5 --vmodule a=1 --hostname-override FLAG --master http://api --cleanup --init-only"
    options = completed(
        line, "logging: {verbosity: 2, vmodule: [{filePattern: b, verbosity: 2}]}\nhostnameOverride: file"
    ).options
    assert options.configuration.logging.verbosity == 5
    assert options.configuration.logging.vmodule == (VModule("a", 1), VModule("b", 2))
    assert options.configuration.hostname_override == options.hostname == "flag"
    assert (options.master, options.cleanup, options.init_only, options.config_file) == ("http://api", True, True, PATH)


def test_the_files_logging_is_used_without_flags():
    logging = configuration(f"--config {PATH}", "logging: {verbosity: 2, format: json}").logging
    assert (logging.verbosity, logging.format) == (2, "json")


def test_every_flag_sets_a_field_or_is_used_elsewhere():
    bare = {name for name, flag in FLAGS.items() if not flag.targets}
    assert bare == {*BESIDE_CONFIG, "config", "healthz-port", "metrics-port"}


SET_BY_FLAG = {
    "--masquerade-all": lambda c: c.iptables.masquerade_all and not c.nftables.masquerade_all,
    "--masquerade-all --proxy-mode nftables": lambda c: c.nftables.masquerade_all and not c.iptables.masquerade_all,
    "--proxy-mode ipvs": lambda c: c.ipvs.min_sync_period == Duration.of(1) and not c.iptables.sync_period,
    "--proxy-mode ipvs --ipvs-min-sync-period 0": lambda c: c.ipvs.min_sync_period == 0,
    "--proxy-mode nftables --iptables-sync-period 5s": lambda c: c.nftables.sync_period == Duration.of(5),
    "--iptables-min-sync-period 0": lambda c: c.iptables.min_sync_period == 0,
    "--iptables-localhost-nodeports=false": lambda c: not c.iptables.localhost_node_ports,
    "--healthz-bind-address 10.0.0.1": lambda c: c.healthz_bind_address == "10.0.0.1:10256",
    "--healthz-bind-address 10.0.0.1 --healthz-port 5": lambda c: c.healthz_bind_address == "10.0.0.1:5",
    "--healthz-bind-address 10.0.0.1:4 --healthz-port 5": lambda c: c.healthz_bind_address == "10.0.0.1:4",
    "--healthz-port 0": lambda c: c.healthz_bind_address == "",
    "--healthz-port 5": lambda c: c.healthz_bind_address == "0.0.0.0:10256",
    "--metrics-bind-address ::": lambda c: c.metrics_bind_address == "[::]:10249",
    "--write-config-to x --healthz-port 0 --metrics-port 0": lambda c: c.metrics_bind_address == "127.0.0.1:10249",
    "--write-config-to x --healthz-bind-address ::1": lambda c: c.healthz_bind_address == "[::1]:10256",
    "--cluster-cidr 10.0.0.0/8,fd00::/48": lambda c: c.cluster_cidr == "10.0.0.0/8,fd00::/48",
    "--logging-format json --log-flush-frequency 1s": lambda c: c.logging.flush_frequency.seconds == 1,
    "--pod-bridge-interface cbr0": lambda c: c.detect_local.bridge_interface == "cbr0",
}


@pytest.mark.parametrize("line", SET_BY_FLAG)
def test_flags_set_fields(line):
    assert SET_BY_FLAG[line](configuration(line))


REFUSED = {
    ("--feature-gates Nonsense=true", None): "failed complete: unrecognized feature gate: Nonsense",
    (f"--config {PATH}", "featureGates: {B: true, A: false}"): "failed complete: unrecognized feature gate: A, "
    "unrecognized feature gate: B",
    (f"--config {PATH}", None): f"failed complete: open {PATH}: no such file or directory",
    (f"--config {PATH}", "mode: 1"): "failed complete: failed to decode: json: "
    "cannot unmarshal number into Go struct field KubeProxyConfiguration.mode of type v1alpha1.ProxyMode",
    ("--proxy-mode userspace", None): "failed validate: KubeProxyConfiguration.Mode.ProxyMode: Invalid value: "
    '"userspace": must be iptables, ipvs, nftables or blank '
    "(blank means the best-available proxy [currently iptables])",
    ("--metrics-port 0", None): 'failed validate: KubeProxyConfiguration.MetricsBindAddress: Invalid value: "": '
    "must be IP:port",
    ("--logging-format xml --proxy-mode x", None): 'initialize logging: logging.format: Invalid value: "xml": '
    "Unsupported log format",
    (f"--config {PATH} --cleanup", "oomScoreAdj: 2000\nbindAddress: x"): "failed validate: ["
    "KubeProxyConfiguration.KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 2000: "
    "must be within the range [-1000, 1000], "
    'KubeProxyConfiguration.BindAddress: Invalid value: "x": not a valid textual representation of an IP address]',
}


@pytest.mark.parametrize(("line", "file"), REFUSED)
def test_invalid_settings_are_rejected(line, file):
    assert refusal(line, file) == REFUSED[line, file]


def test_names():
    assert completed("").options.hostname == "worker-1"
    assert completed(f"--config {PATH}", "hostnameOverride: ' MASTER1 '").options.hostname == "master1"
    assert refusal("", host="  ") == "empty hostname is invalid"
    assert completed("--write-config-to x", host="").options.hostname == "", "a file is written on any machine"
    blank = parse(["--hostname-override", "  "])
    with pytest.raises(ConfigurationError, match="^failed complete: empty hostname-override is invalid$"):
        complete(blank, lambda path: b"", lambda: "h")


def test_a_leniently_read_file_is_logged():
    _, notes = completed(f"--config {PATH}", "foo: 1")
    expected = {"err": 'strict decoding error: unknown field "foo"'}
    assert notes[0] == Note("Using lenient decoding as strict decoding failed", pairs=expected)
