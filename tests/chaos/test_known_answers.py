"""Runs whose verdict is known in advance: real lab, real load, real faults."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chaos.experiment import read_experiment
from chaos.judge import judge_folder
from chaos.perform import Performer
from chaos.session import ChaosSession, SessionError
from chaos.targets.lab_stage import LabStage
from chaos.verdict import Verdict
from harness.lab.control_plane.probes import Probe, parse_probe
from harness.log import open_source
from harness.log.state import State, folded
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("kernel_namespaces"), pytest.mark.xdist_group("faults")]

PERIOD, THRESHOLD = 1, 3
SLACK_SECONDS = 1.0
"""Tolerance for a busy machine: the delay from a probe's result to the API."""


def time_to_unready_seconds(probe: Probe) -> tuple[float, float]:
    """Minimum and maximum time from a container's failure to the pod being unready.

    The first failing probe comes 0 to one period after the fault, the last one failureThreshold - 1 periods later.
    """
    rest = (probe.failure_threshold - 1) * probe.period_seconds
    return rest, rest + probe.period_seconds


def experiment(method: list[dict], objectives: dict, **lab) -> dict:
    """An experiment of these faults, with little load from outside and inside."""
    flows = {"client": ["nodeport-http", "nodeport-tcp"], "caller-1": ["clusterip-http", "clusterip-udp"]}
    activities = [
        {
            "type": "action",
            "name": arguments["fault"],
            "provider": {"type": "python", "module": "chaos.actions", "func": "inject", "arguments": arguments},
        }
        for arguments in method
    ]
    extension = {
        "name": "kube-proxy-harness",
        "lab": {"nodes": 2, "pods": 4, "probe_period_seconds": PERIOD, "failure_threshold": THRESHOLD, **lab},
        "load": {"arrivals_per_second": 80, "flows": flows, "warm_up_seconds": 1, "cool_down_seconds": 1},
        "objectives": objectives,
    }
    return {"title": "t", "description": "d", "method": activities, "extensions": [extension]}


def session(raw: dict, folder: Path) -> ChaosSession:
    return ChaosSession(read_experiment(raw), 1, folder, lambda line: None, LabStage())


def run(raw: dict, folder: Path, between=lambda session: None) -> Verdict:
    """Begin, inject all, end, judge; `between` acts before each fault."""
    made = session(raw, folder)
    made.begin()
    try:
        for step in made.plan.steps:
            between(made)
            made.inject(step.fault)
    finally:
        made.end(finished=True)
    return judge_folder(folder)


@pytest.fixture(scope="module")
def killed(kernel_namespaces, tmp_path_factory) -> tuple[Verdict, Path]:
    """A pod killed, and the verdict."""
    folder = tmp_path_factory.mktemp("killed")
    objectives = {"error_budget_percent": 25, "failures_after_convergence": 0, "node_convergence_seconds": 4}
    return run(experiment([{"fault": "pod-kill", "seconds": 8}], objectives), folder), folder


def test_a_killed_pod_loses_requests_as_long_as_arithmetic_says_and_none_after(killed):
    verdict, _ = killed
    (finding,) = verdict.findings
    probe = parse_probe({"tcpSocket": {"port": 1}, "periodSeconds": PERIOD, "failureThreshold": THRESHOLD})
    least, most = time_to_unready_seconds(probe)
    assert verdict.value is True, verdict.summary()
    assert least <= finding.readiness_lost_seconds <= most + SLACK_SECONDS
    followed = max(finding.nodes_followed.values())
    assert finding.readiness_lost_seconds <= followed
    # One request in four went to the dead pod, twenty a second, until the slower node's kernel had followed.
    assert least - 0.5 <= finding.last_failure_seconds <= followed + SLACK_SECONDS
    assert 80 / 4 * least * 0.5 <= finding.lost <= 80 / 4 * followed * 1.6
    assert finding.lost_after_convergence == 0
    assert verdict.lost_outside_faults == 0
    assert set(finding.nodes_followed) == {"node-1", "node-2"}


def test_every_lost_request_has_its_target(killed):
    verdict, folder = killed
    rows = [msgspec.json.decode(line) for log in (folder / "load").glob("*.jsonl") for line in log.open("rb")]
    lost = [row for row in rows if row["kind"] == "failure"]
    (pod,) = verdict.findings[0].pods
    assert lost
    assert {row["pod"] for row in lost} == {pod}
    assert {row["node"] for row in lost} <= {"node-1", "node-2"}
    assert {row["cause"] for row in lost} <= {"refused", "reset", "no answer", "timeout"}


def test_the_run_is_a_recording_with_its_faults_in_it(killed):
    _, folder = killed
    with open_source(folder / "events.jsonl") as recording:
        faults = [msgspec.json.decode(e.object) for e in folded(recording, State()) if e.type == "FAULT"]
    assert [fault["phase"] for fault in faults] == ["plan", "inject", "heal"]
    assert faults[0]["plan"]["steps"][0]["pods"] == faults[1]["pods"]


def test_a_paused_engine_makes_the_verdict_false(tmp_path):
    """One node's engine is stopped, then a pod dies: that node keeps sending its share to the dead pod."""
    objectives = {"failures_after_convergence": 0, "node_convergence_seconds": 4}
    made = session(experiment([{"fault": "pod-kill", "seconds": 10}], objectives), tmp_path)
    made.begin()
    try:
        made.stage.client.perform("engine.signal", node="node-1", number="SIGSTOP")
        step = made.plan.steps[0]
        made.performed.append(Performer(made.target).perform(step))
        made.stage.client.perform("engine.signal", node="node-1", number="SIGCONT")
        made.settle(30)
        made.performed[0].settled = made.target.now()
    finally:
        made.end(finished=True)
    verdict = judge_folder(tmp_path)
    assert verdict.value is False, verdict.summary()
    convergence = next(j for j in verdict.judgements if j.objective == "node convergence")
    assert convergence.value is False


def test_a_fault_that_could_not_be_injected_makes_it_unknown(tmp_path):
    def end_the_pod(made: ChaosSession) -> None:
        (pod,) = made.plan.steps[0].pods
        made.stage.client.perform("pod.signal", pod=pod, number="SIGKILL")
        until(lambda: not any(p.name == pod and p.running for p in made.stage.client.status().pods))

    raw = experiment([{"fault": "pod-kill", "seconds": 1}], {"error_budget_percent": 100})
    verdict = run(raw, tmp_path, between=end_the_pod)
    assert verdict.value is None, verdict.summary()
    assert "pod-kill: not injected: " in verdict.problems[0]
    assert "has no running process" in verdict.problems[0]


def test_a_heal_that_fails_is_reported_and_makes_it_unknown(tmp_path, monkeypatch):
    from chaos import perform

    monkeypatch.setattr(perform, "HEAL_SECONDS", 0.5)
    lines: list[str] = []
    faults = [{"fault": "pod-kill", "seconds": 5}, {"fault": "pod-hang", "seconds": 1}]
    raw = experiment(faults, {"error_budget_percent": 100})
    made = ChaosSession(read_experiment(raw), 1, tmp_path, lines.append, LabStage())
    made.begin()
    try:
        perform_op = made.target.perform

        def refuse_starts(op):
            if op.name == "pod.start":
                raise perform.TargetError("no starting today")
            perform_op(op)

        monkeypatch.setattr(made.target, "perform", refuse_starts)
        monkeypatch.setattr("chaos.session.SETTLE_SECONDS", 0.5)
        made.inject("pod-kill")
        with pytest.raises(SessionError, match="not tried: the cluster has not settled since 1. pod-kill"):
            made.inject("pod-hang")
    finally:
        made.end(finished=True)
    verdict = judge_folder(tmp_path)
    assert any("HEAL FAILED" in line for line in lines)
    assert verdict.value is None
    assert verdict.problems[0] == "only 1 of 2 faults tried"
    assert "pod-kill: not healed: no starting today" in verdict.problems[1]
