"""The installed command, as a process: its output, exit status, the file that it writes (CFG-14, CLI-01, CLI-04)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.server.config.decode import decode

PROGRAM = Path(sys.executable).with_name("proxy-engine")


def run(*words: str) -> subprocess.CompletedProcess:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_SERVICE")}
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, env=outside)


def test_help_and_version():
    shown = run("--help")
    assert shown.returncode == 0 and "--proxy-mode" in shown.stdout
    shown = run("--version")
    assert shown.returncode == 0 and shown.stdout.startswith("proxy-engine 0.")


def test_a_wrong_flag_shows_usage_then_the_error():
    done = run("--nonsense")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Usage: proxy-engine [flags]\n")
    assert done.stderr.endswith("\nError: unknown flag: --nonsense\n")


def test_a_wrong_configuration_shows_no_usage():
    done = run("--proxy-mode", "userspace")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: failed validate: KubeProxyConfiguration.Mode.ProxyMode: Invalid value")


def test_without_a_kubeconfig_it_must_run_in_a_cluster():
    """CFG-21; nothing has been touched when this ends."""
    done = run("--hostname-override", "n1")
    assert done.returncode == 1
    assert "Neither kubeconfig file nor master URL was specified, falling back to in-cluster config" in done.stderr
    assert '"Command failed" err="in-cluster config: ' in done.stderr


def test_the_written_file_is_the_effective_configuration(tmp_path):
    target = tmp_path / "config.yaml"
    done = run("--write-config-to", str(target), "--proxy-mode=nftables", "--iptables-min-sync-period=0", "-v=1")
    assert done.returncode == 0
    assert "Wrote configuration" in done.stderr
    written = decode(target.read_bytes())
    assert written.complaint == ""
    assert (written.configuration.mode, written.configuration.node_port_addresses) == ("nftables", ("primary",))
    again = run("--config", str(target), "--write-config-to", str(tmp_path / "again.yaml"))
    assert again.returncode == 0
    second = (tmp_path / "again.yaml").read_text()
    assert decode(second).configuration == written.configuration


@pytest.mark.parametrize("target", ["missing/config.yaml", "."])
def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, target):
    done = run("--write-config-to", str(tmp_path / target))
    assert done.returncode == 1
    assert "Error: open " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_lenient_reading_is_logged(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nfoo: 1\n")
    done = run("--config", str(config), "--write-config-to", str(tmp_path / "out.yaml"), "--logging-format=json")
    assert done.returncode == 0
    assert '"msg": "Using lenient decoding as strict decoding failed", "v": 0, "err": "strict decoding' in done.stderr
