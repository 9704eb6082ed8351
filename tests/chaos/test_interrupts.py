"""A run that is interrupted or killed: healed, ended, reported, with its own exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.lab.control import LabClient
from harness.log import open_source
from harness.log.state import State, folded
from tests.lab.conftest import marked
from tests.waiting import until as eventually

pytestmark = [pytest.mark.usefixtures("kernel_namespaces"), pytest.mark.xdist_group("gate")]


def run_until(
    tmp_path: Path, line: str, number: signal.Signals, ready: Callable[[], bool] = lambda: True
) -> tuple[int, str]:
    """`harness chaos run` of one fault, sent the signal once it has printed the line and is ready.

    Returns exit code and all output.
    """
    source = Path("chaos/experiments/pod-kill.yaml").read_text()
    assert "nodes: 3, pods: 12" in source
    assert "arrivals_per_second: 200" in source
    source = source.replace("nodes: 3, pods: 12", "nodes: 2, pods: 3")
    quick = "arrivals_per_second: 50, warm_up_seconds: 0.1, cool_down_seconds: 0"
    (tmp_path / "kill.yaml").write_text(source.replace("arrivals_per_second: 200", quick))
    command = [sys.executable, "-u", "-m", "harness", "chaos", "run", str(tmp_path / "kill.yaml")]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    printed = ""
    for said in process.stdout:
        printed += said
        if line in said:
            eventually(ready)
            process.send_signal(number)
            break
    printed += process.communicate(timeout=90)[0]
    return process.returncode, printed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_fault_that_is_interrupted_is_healed_and_the_run_judged_unknown(tmp_path, number, code):
    lab = tmp_path / "run" / "lab"

    def injected() -> bool:
        return any(not pod.running for pod in LabClient(lab).status().pods)

    got, printed = run_until(tmp_path, "1. pod-kill", number, injected)
    assert got == code, printed
    assert "verdict: UNKNOWN" in printed
    assert "interrupted" in printed
    with open_source(tmp_path / "run" / "events.jsonl") as recording:
        faults = [event.object for event in folded(recording, State()) if event.type == "FAULT"]
    assert [msgspec.json.decode(fault)["phase"] for fault in faults] == ["plan", "inject", "heal"], printed
    eventually(lambda: not marked(tmp_path))


def test_a_run_that_is_interrupted_while_its_lab_starts_ends_at_once(tmp_path):
    got, printed = run_until(tmp_path, "network", signal.SIGINT)
    assert got == 130, printed
    assert "verdict: UNKNOWN" in printed
    eventually(lambda: not marked(tmp_path))


def test_nothing_outlives_a_run_that_is_killed(tmp_path):
    got, printed = run_until(tmp_path, "1. pod-kill", signal.SIGKILL)
    assert got == -signal.SIGKILL, printed
    eventually(lambda: not marked(tmp_path))
    assert os.path.isdir(tmp_path / "run" / "lab"), "which the next run in this folder sweeps"
