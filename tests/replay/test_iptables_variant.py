"""`--iptables-variant`: the rules are made by that one's tools, and by no other."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from engine.kernel.iptables.variant import VARIANTS, tool
from harness.log.window import Window
from harness.replay.kernels import open_kernel
from harness.replay.session import ReplayOptions, ReplaySession

DEMO = "recordings/demo.jsonl"
each_variant = pytest.mark.parametrize("variant", VARIANTS)


@each_variant
def test_the_namespace_holds_rules_of_that_variant_alone(kernel_namespaces, variant):
    options = ReplayOptions(mode="iptables", window=Window(until=("t", 5_000_000_000)))
    with open_kernel("netns", "iptables", variant) as target:
        result = ReplaySession(DEMO, options, target, lambda *_: None).run()
        assert result.verified is True, result.differences
        saved = {each: target.place.run([tool(each, 4, "save")], b"").stdout for each in VARIANTS}
    assert {each for each in VARIANTS if b":KUBE-SVC-" in saved[each]} == {variant}
    assert {each for each in VARIANTS if b"KUBE-" in saved[each]} == {variant}


@each_variant
def test_the_command_names_the_variant(kernel_namespaces, variant):
    asked = ["--mode", "iptables", "--iptables-variant", variant, "--kernel", "netns"]
    command = [sys.executable, "-m", "harness", "replay", DEMO, *asked, "--until", "0s", "--verify", "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"({variant})" in done.stdout.splitlines()[0]


def test_a_comparison_uses_the_variant_only_in_mode_iptables(kernel_namespaces):
    asked = ["--modes", "iptables,nftables", "--iptables-variant", "legacy", "--kernel", "netns", "--until", "3s"]
    command = [sys.executable, "-m", "harness", "compare", DEMO, *asked, "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    iptables, nftables = (run["result"]["kernel"] for run in json.loads(done.stdout)["modes"])
    assert iptables["iptables"].endswith("(legacy)")
    assert "iptables" not in nftables
