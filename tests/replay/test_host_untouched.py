"""The host's own rules, addresses and routes are the same before and after a replay."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = (["nft", "list", "ruleset"], ["ip", "addr"], ["ip", "route", "show", "table", "all"], ["ip", "-6", "route"])


def host() -> list[bytes]:
    outputs = []
    for command in COMMANDS:
        text = subprocess.run(command, capture_output=True, check=False).stdout
        outputs.append(b"\n".join(line for line in text.splitlines() if b"valid_lft" not in line))
    return outputs


@pytest.mark.parametrize("arguments", [["--until", "60s"], ["--kernel", "memory"]], ids=["netns", "memory"])
def test_a_replay_leaves_the_host_as_it_was(kernel_namespaces, arguments):
    before = host()
    command = [sys.executable, "-m", "harness", "replay", "recordings/demo.jsonl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert host() == before


def test_the_host_is_rejected_if_it_has_a_proxy(kernel_namespaces, namespace):
    """Inside a throwaway namespace `host` means that namespace, so this harms nobody."""
    script = "nft add table ip kube-proxy; exec $0 -m harness replay recordings/demo.jsonl --kernel host"
    enter = ["nsenter", "-t", str(namespace.pid), "-U", "-n", "--preserve-credentials", "--"]
    done = subprocess.run([*enter, "sh", "-c", script, sys.executable], capture_output=True, text=True)
    assert done.returncode == 1
    assert "already has table `ip kube-proxy`" in done.stderr


def test_the_host_is_programmed_on_explicit_request_and_cleaned_up(kernel_namespaces, namespace):
    script = "$0 -m harness replay recordings/demo.jsonl --until 10s --kernel host && nft list tables"
    enter = ["nsenter", "-t", str(namespace.pid), "-U", "-n", "--preserve-credentials", "--"]
    done = subprocess.run([*enter, "sh", "-c", script, sys.executable], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "this host" in done.stdout and "verified" in done.stdout
    assert "table ip kube-proxy" not in done.stdout
