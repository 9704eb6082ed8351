"""The release gate as users run it: a command with an exit code, which leaves nothing but its folder.

Again and again, and beside a load: `python -m tests.chaos.gates`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.log import open_source
from harness.log.state import State, folded
from tests.chaos import gates

pytestmark = [
    pytest.mark.usefixtures("kernel_namespaces"),
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("gate"),
]


def traces(folder: Path) -> dict[str, object]:
    """What a run could leave on the host: processes that name its folder, mounts, rules, links, temporary files."""

    def output_of(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    own = {os.getpid(), os.getppid()}
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and int(entry.name) not in own:
            processes.append(words)
    return {
        "processes": processes,
        "rules": output_of("nft", "list", "ruleset"),
        "links": sorted(line.split(":")[1] for line in output_of("ip", "-o", "link").splitlines()),
        "namespaces": output_of("ip", "netns", "list"),
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line],
    }


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_the_gate_is_passed_and_leaves_nothing_behind(mode, tmp_path):
    before = traces(tmp_path)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "harness", "chaos", "run", "release-gate-short", "--mode", mode, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: TRUE" in done.stdout and "verdict: " not in done.stderr
    assert traces(tmp_path) == before
    left = {path.name for path in out.iterdir()}
    assert left >= {"report.html", "report.md", "junit.xml", "verdict.json", "run.json", "events.jsonl", "load"}
    with open_source(out / "events.jsonl") as recording:
        assert sum(event.type == "FAULT" for event in folded(recording, State())) >= 11


def test_gates_that_are_not_true_are_a_failure(tmp_path):
    """Each run of the table states its reason; busy loops end with the table."""
    options = ["--times", "2", "--mode", "nftables", "--busy", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(gates.main, ["no-such-gate", *options])
    assert done.exit_code == 1 and done.stdout.splitlines()[-1] == "nftables: 2 exit 2", done.stdout
    assert done.stdout.count("no-such-gate") == 3
    assert not subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", gates.BUSY], capture_output=True).stdout


def test_chaos_toolkit_s_own_command_runs_an_experiment_too(tmp_path):
    """`chaos run`, with nothing of ours but the providers that the file names."""
    source = Path("chaos/experiments/engine-crash.yaml").read_text()
    experiment = tmp_path / "engine-crash.yaml"
    experiment.write_text(source.replace("nodes: 3, pods: 12", "nodes: 2, pods: 2").replace("seconds: 5", "seconds: 1"))
    command = [Path(sys.executable).with_name("chaos"), "run", str(experiment)]
    environment = {**os.environ, "CHAOS_OUT": str(tmp_path / "run")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: TRUE" in done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert "Experiment ended with status: completed" in done.stdout + done.stderr
