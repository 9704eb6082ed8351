"""Missing features of the machine are detected in advance, and named."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from engine.kernel.iptables import IptablesKernel
from engine.kernel.iptables import probe as probe_of_iptables
from engine.kernel.ipvs import probe as ipvs_probe
from engine.kernel.netlink import NETFILTER, Connection
from engine.kernel.nftables import NftablesKernel, probe
from harness.cli import main

from .sockets import Deaf


@pytest.fixture
def sock(namespace):
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as made:
        yield made


def without(namespace, *words: str):
    """The namespace's tools, none of which knows some words."""

    def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        for word in words:
            stdin = stdin.replace(word.encode(), b"unheard-of")
        return namespace.run(command, stdin)

    return run


def ruleset(namespace) -> bytes:
    return namespace.run(["nft", "list", "ruleset"]).stdout


def test_a_probe_finds_every_feature_and_leaves_nothing(namespace, sock):
    assert NftablesKernel(sock, namespace.run).missing((4, 6)) is None
    assert ruleset(namespace) == b""
    for variant in ("legacy", "nft"):
        assert IptablesKernel(namespace.run, variant, namespace.socket).missing((4, 6)) is None
        for tool in ("iptables", "ip6tables"):
            assert b"KUBE" not in namespace.run([f"{tool}-{variant}-save"]).stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["masquerade"], "lacks masquerading (nft_masq) for IPv4, masquerading (nft_masq) for IPv6: "),
        (["fib", "reject"], "lacks rejecting (nft_reject) for IPv4, local addresses (nft_fib) for IPv4, "),
        (["numgen"], "lacks random numbers (nft_numgen) for IPv4, "),
        (["interval"], "lacks concatenated ranges for IPv4, "),
    ],
)
def test_what_nf_tables_lacks_is_named(namespace, sock, words, named):
    assert named in NftablesKernel(sock, without(namespace, *words)).missing((4, 6))
    assert ruleset(namespace) == b""


@pytest.mark.parametrize("feature", probe._FEATURES)
def test_each_feature_is_probed_by_valid_rules(namespace, feature):
    for family in (4, 6):
        assert probe._refused(namespace.run, probe._table(family, probe._FEATURES[feature])) == ""


def test_a_kernel_that_does_not_answer_is_named_in_time(namespace, sock):
    silent = Connection(Deaf(sock), answer_seconds=0.2)
    assert "does not support transactions by netlink: " in probe.missing(silent, namespace.run, (4,))


@pytest.mark.parametrize("variant", ["legacy", "nft"])
@pytest.mark.parametrize(("word", "named"), [("--random-fully", "MASQUERADE"), ("statistic", "statistic")])
def test_what_iptables_lacks_is_named(namespace, variant, word, named):
    kernel = IptablesKernel(without(namespace, word), variant, namespace.socket)
    assert f"iptables-{variant} or this kernel lacks {named}: " in kernel.missing((4, 6))
    assert b"KUBE" not in namespace.run([f"iptables-{variant}-save"]).stdout


@pytest.mark.parametrize("family", [4, 6])
def test_sets_and_rules_of_ipvs_that_are_missing_are_named(namespace, family):
    tool = "iptables-nft" if family == 4 else "ip6tables-nft"
    assert ipvs_probe._sets(namespace.run, family) is None
    assert ipvs_probe._rules(namespace.run, tool, family) is None
    lacks = ipvs_probe._sets(without(namespace, "bitmap:port"), family)
    assert lacks.startswith("ipset or this kernel lacks sets bitmap:port: ")
    lacks = ipvs_probe._rules(without(namespace, "--match-set"), tool, family)
    assert lacks.startswith(f"{tool} or this kernel lacks set: ")
    assert namespace.run(["ipset", "list", "-n"]).stdout == b""
    assert b"KUBE" not in namespace.run([f"{tool}-save"]).stdout


def test_warnings_are_not_taken_for_the_error():
    """iptables-legacy 1.8.9 warns of an option on the first line."""

    def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        words = b"Ignoring deprecated --wait-interval option.\niptables-restore: unable to initialize table 'nat'\n"
        return subprocess.CompletedProcess(command, 1, b"", words)

    assert probe_of_iptables.missing(run, "legacy", (4,)).endswith(
        ": iptables-restore: unable to initialize table 'nat'"
    )


def test_a_replay_names_what_the_machine_lacks(namespace, tmp_path):
    """At once, before anything is programmed."""
    tool = tmp_path / "nft"
    tool.write_text(f'#!/bin/sh\nsed s/masquerade/unheard-of/ | {shutil.which("nft")} "$@"\n')
    tool.chmod(0o755)
    command = [sys.executable, "-m", "harness", "replay", "recordings/demo.jsonl", "--kernel", "netns"]
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=path)
    assert done.returncode == 1
    assert "error: nft or nf_tables of this kernel lacks masquerading (nft_masq) for IPv4" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("mode", "tool"),
    [("nftables", "nft"), ("iptables", "iptables-nft-save"), ("iptables", "ip6tables-nft-restore")],
)
def test_a_replay_names_a_tool_that_hangs(namespace, monkeypatch, tmp_path, mode, tool):
    """After one wait, not one for each thing that it is asked."""
    asked = tmp_path / "asked"
    (tmp_path / tool).write_text(f"#!/bin/sh\necho >>{asked}\nkill -STOP $$\n")
    (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("harness.places.commands.SECONDS", 2)
    done = CliRunner().invoke(main, ["replay", "recordings/demo.jsonl", "--mode", mode, "--kernel", "netns"])
    assert done.exit_code == 1
    assert f"error: {tool} timed out after 2 s" in done.stderr
    assert len(asked.read_text()) == (2 if mode == "nftables" else 1)  # nft is asked for its version first


def test_a_tool_that_is_not_installed_is_named(monkeypatch, tmp_path):
    for tool in ("ipset", "iptables", "ipvsadm"):
        (tmp_path / tool).symlink_to(shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin"))
    monkeypatch.setattr("engine.paths.SBIN", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(main, ["replay", "recordings/demo.jsonl", "--mode", "ipvs", "--kernel", "netns"])
    assert done.exit_code == 1
    assert "not installed: ip (package iproute2)" in done.stderr and done.stderr.count("\n") == 1
