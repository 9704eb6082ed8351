"""Another proxy on the nodes of a lab: how its rules are observed, and which options are rejected."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.lab.dataplane.engines import Engine
from harness.lab.dataplane.rules_watcher import watcher_for
from harness.lab.topology import LabOptions, nodes_of
from harness.places.place import Place

RULES = """\
table ip other {
  map ends { type ipv4_addr : ipv4_addr; elements = { 10.0.0.1 : 10.9.0.1 } }
  chain ep-x__10.9.0.9/80 { }
  chain c { type nat hook prerouting priority -100; ip daddr 10.0.0.2 tcp dport 80 dnat to 10.9.0.2:80; }
}
"""


def test_a_node_is_up_to_date_when_the_rules_name_an_address(namespace):
    place = Place("netns", namespace.socket, namespace.run)
    watcher = watcher_for("nftables", place, None, time.monotonic, external=True)
    try:
        assert watcher.observe().held == set()
        assert namespace.run(["nft", "-f", "-"], RULES.encode()).returncode == 0
        assert watcher.observe().held >= {"10.9.0.1", "10.9.0.2"}
        assert "10.9.0.9" not in watcher.observe().held, "an empty chain leads nowhere, whatever its name"
        namespace.run(["nft", "flush", "map", "ip", "other", "ends"])
        assert "10.9.0.1" not in watcher.observe().held
    finally:
        watcher.close()


def test_placeholders_are_replaced_and_a_health_port_is_optional(tmp_path):
    options = LabOptions(nodes=1, external=("sh", "-c", "exec {mode} {node} {api}"))
    node = nodes_of(options)[0]
    engine = Engine(node, options, tmp_path / "e", tmp_path / "kubeconfig")
    assert engine._words == ["sh", "-c", "exec nftables node-1 http://10.10.0.1:6443"]
    assert asyncio.run(engine.synced()) is False, "it does not run"


def test_a_chaos_run_starts_the_proxy_on_every_node(tmp_path, kernel_namespaces):
    line = "sh -c 'echo {node} in {mode}: no licence, process $$; exit 4'"
    command = [sys.executable, "-m", "harness", "chaos", "run", "pod-kill", "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, "--external", line], capture_output=True, text=True)
    assert done.returncode == 3, done.stdout + done.stderr
    said = re.search(
        r"the proxy of (\S+) ended with exit code 4: (\S+) in nftables: no licence, process \d+", done.stdout
    )
    assert said and said[1] == said[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--external", "no-such-program-anywhere {api}"], "program 'no-such-program-anywhere' not found"),
        (["--external", sys.executable, "--lab", "."], "a running lab already has its proxies"),
        (["--external", sys.executable, "--target", "kube"], "--external is for a lab"),
    ],
)
def test_invalid_options_are_rejected_before_anything_runs(arguments, words, tmp_path):
    done = CliRunner().invoke(main, ["chaos", "run", "pod-kill", "--out", str(tmp_path / "run"), *arguments])
    assert done.exit_code == 2
    assert words in done.output
    assert not (tmp_path / "run").exists()
