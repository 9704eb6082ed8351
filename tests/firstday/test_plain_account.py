"""Walk 1: a plain Debian account, from README's first command to a small cluster."""

from __future__ import annotations

import json

from tests.firstday.account import ROOT

DEMO = ROOT / "recordings/demo.jsonl"


def test_the_first_command_of_the_readme(user):
    done = user.harness("replay", DEMO, "--until", "60s", "--json", "result.json")
    assert done.returncode == 0, done.stderr
    assert "verified: the kernel agreed" in done.stdout
    assert json.loads((user.home / "result.json").read_text())["kernel"]["kind"] == "netns"


def test_both_variants_of_iptables(user):
    for variant in ("legacy", "nft"):
        done = user.harness("replay", DEMO, "--mode", "iptables", "--iptables-variant", variant, "--until", "60")
        assert done.returncode == 0, done.stderr
        assert f"({variant})" in done.stdout and "verified: the kernel agreed" in done.stdout


def test_a_lab_starts_answers_and_ends(user):
    done = user.harness("lab", "up", "--nodes", "2", "--pods", "2")
    assert done.returncode == 0, done.stderr
    try:
        done = user.harness("lab", "exec", "client", "--", "curl", "-s", "http://10.10.0.11:30080/healthz")
        assert done.returncode == 0, done.stderr
        assert user.harness("lab", "status").returncode == 0
    finally:
        done = user.harness("lab", "down")
    assert done.returncode == 0, done.stderr
