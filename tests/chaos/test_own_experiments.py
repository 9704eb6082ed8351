"""Users' own experiments: their hypothesis, actions, probes and rollbacks count; those of other tools are rejected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner

from chaos.experiment import find, load_experiment
from chaos.targets.lab_stage import attached
from harness.cli import main
from harness.lab.control import FACTS
from harness.lab.topology import LabOptions

DATA = Path(__file__).with_name("data")


def written(name: str, folder: Path) -> Path:
    """The experiment, with its traces in the folder."""
    path = folder / f"{name}.yaml"
    path.write_text((DATA / f"{name}.yaml").read_text().replace("FOLDER", str(folder)))
    return path


def run(name: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], dict, ElementTree.Element]:
    """Run the command; returns its output, verdict and JUnit document."""
    command = [sys.executable, "-m", "harness", "chaos", "run", str(written(name, folder)), "--out"]
    done = subprocess.run([*command, str(folder / "run")], capture_output=True, text=True, timeout=240, check=False)
    verdict = json.loads((folder / "run" / "verdict.json").read_text())
    return done, verdict, ElementTree.fromstring((folder / "run" / "junit.xml").read_text())


@pytest.mark.usefixtures("kernel_namespaces")
@pytest.mark.xdist_group("gate")
def test_a_hypothesis_that_deviates_is_false_and_named(tmp_path):
    done, verdict, suites = run("hypothesis-deviates", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    (judged,) = [j for j in verdict["judgements"] if j["objective"] == "hypothesis: Orders are taken"]
    assert judged["value"] is False
    assert "'orders are taken' was not within its tolerance after the method" in judged["measured"]
    assert "verdict: FALSE" in done.stdout and "orders are taken" in done.stdout
    assert "verdict: " not in done.stderr, "it is printed once"
    failed = [case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None]
    assert failed == ["hypothesis: Orders are taken"]
    again = CliRunner().invoke(main, ["chaos", "report", str(tmp_path / "run")])
    assert again.exit_code == 1


@pytest.mark.usefixtures("kernel_namespaces")
@pytest.mark.xdist_group("gate")
def test_an_action_probe_or_rollback_that_fails_is_unknown_and_named(tmp_path):
    done, verdict, suites = run("own-action-fails", tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    failed = (
        "action 'stop the cache' of the method failed: ",
        'probe "one\'s own probe fails" of the method failed: ',
        "action 'start the cache' of the rollbacks failed: ",
    )
    for named in failed:
        assert any(problem.startswith(named) for problem in verdict["problems"]), verdict["problems"]
    assert int(suites.get("errors")) >= 1 and suites.get("failures") == "0"


@pytest.mark.parametrize("verb", ["validate", "plan", "run"])
def test_a_foreign_experiment_is_rejected_before_any_action(tmp_path, verb):
    done = CliRunner().invoke(main, ["chaos", verb, str(written("foreign-experiment", tmp_path))])
    assert done.exit_code == 2
    assert "the control chaos.control is missing and no activity of its method injects a fault" in done.output
    assert not (tmp_path / "foreign-ran").exists()


def a_lab(folder: Path, **options) -> Path:
    """The state in a running lab's folder."""
    folder.mkdir()
    facts = {"user_namespace": False, "pid": 1, "options": msgspec.to_builtins(LabOptions(**options))}
    (folder / FACTS).write_text(json.dumps(facts))
    return folder


def test_a_running_lab_of_another_mode_is_refused(tmp_path):
    lab = a_lab(tmp_path / "lab", nodes=2, pods=4, mode="nftables")
    done = CliRunner().invoke(main, ["chaos", "run", "pod-kill", "--lab", str(lab), "--mode", "iptables"])
    assert done.exit_code == 2
    assert "mode iptables is requested, but the lab in" in done.output and "runs nftables" in done.output


def test_a_folder_without_a_lab_is_rejected(tmp_path):
    done = CliRunner().invoke(main, ["chaos", "run", "pod-kill", "--lab", str(tmp_path)])
    assert done.exit_code == 2 and "no lab in" in done.output


def test_a_run_in_a_running_lab_is_about_that_lab(tmp_path):
    lab = a_lab(tmp_path / "lab", nodes=2, pods=4, mode="iptables")
    experiment = attached(load_experiment(find("pod-kill")), lab)
    assert (experiment.lab.nodes, experiment.lab.pods, experiment.lab.mode) == (2, 4, "iptables")
