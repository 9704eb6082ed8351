"""Operations on a cluster, against a served API with writes and controllers: performed, observed, undone."""

from __future__ import annotations

from typing import Any

import msgspec

from chaos.experiment import read_experiment
from chaos.perform import Performer, StepResult
from chaos.targets.kube.settings import KubeOptions
from chaos.targets.kube.stage import KubeStage
from chaos.targets.kube.undo import read_heal_file
from harness.log import open_source
from harness.log.state import State, folded
from tests.chaos.kube_experiment import EXEC, experiment
from tests.chaos.stand import GATE, NAMESPACE, OTHER, Cluster
from tests.waiting import until


def perform(cluster: Cluster, *faults: dict[str, Any], **kube: Any) -> list[StepResult]:
    """Perform every step without load, then close the stage."""
    allowed = (NAMESPACE, OTHER)
    options = KubeOptions(str(cluster.kubeconfig), "staging", False, allowed, None, 50.0, 1, True)
    stage, lines = KubeStage(options), []
    folder = cluster.folder / "run"
    folder.mkdir()
    try:
        plan = stage.open(read_experiment(experiment(*faults, **kube)), 1, folder, lines.append)
        done = []
        for step in plan.steps:
            done.append(Performer(stage.target, lines.append).perform(step))
            until(lambda: stage.health()["pods"], "the cluster settles")
    finally:
        assert stage.close() == []
    assert read_heal_file(folder)[1] == {}
    with open_source(folder / "events.jsonl") as recording:
        phases = [msgspec.json.decode(e.object)["phase"] for e in folded(recording, State()) if e.type == "FAULT"]
    assert phases == ["inject", "heal"] * len(done)
    return done


def well(done: list[StepResult]) -> bool:
    return all(step.injected and step.healed and not step.errors for step in done)


def test_pods_are_deleted_evicted_and_killed_and_others_come(cluster):
    before = cluster.names()
    faults = [{"fault": "pod-terminate", "seconds": 1}, {"fault": "pod-kill", "seconds": 1}]
    done = perform(cluster, *faults, {"fault": "pod-terminate", "seconds": 1, "parameters": {"evict": True}})
    assert well(done), done
    hit = [pod for step in done for pod in step.pods]
    assert len(set(hit)) == 3
    assert before - cluster.names() == set(hit)
    words = [f"{method} {path.rpartition('/pods/')[2]}" for method, path in cluster.writes]
    assert words == [f"DELETE {hit[0]}", f"DELETE {hit[1]}", f"POST {hit[2]}/eviction"]


def test_a_drain_cordons_evicts_and_uncordons(cluster):
    (done,) = perform(cluster, {"fault": "node-drain", "seconds": 1.5})
    (node,) = done.nodes
    assert done.injected and done.healed, done.errors
    assert cluster.unschedulable() == []
    assert [w for w in cluster.writes if w[0] == "PATCH"] == [("PATCH", f"/api/v1/nodes/{node}")] * 2
    evicted = {path.split("/")[-2] for method, path in cluster.writes if method == "POST"}
    assert evicted == {*done.pods, f"till-{node}"}, "the daemon's pod stays"


def test_a_drain_waits_for_a_disruption_budget(cluster):
    cluster.budget = 2
    (done,) = perform(cluster, {"fault": "pod-terminate", "seconds": 1, "parameters": {"evict": True}})
    assert well([done]), done
    assert len([path for method, path in cluster.writes if path.endswith("/eviction")]) == 3


def test_waiting_for_a_disruption_budget_is_bounded(cluster):
    cluster.budget = 1000
    (done,) = perform(cluster, {"fault": "node-drain", "seconds": 1}, evict_seconds=1.5)
    assert not done.injected and done.healed
    assert "429" in done.errors[0] and "not within 1.5 s" in done.errors[0]
    assert len([path for method, path in cluster.writes if path.endswith("/eviction")]) == 2
    assert cluster.unschedulable() == []


def test_readiness_fails_by_gate_and_by_command_and_comes_back(cluster):
    fault = {"fault": "readiness-flap", "seconds": 2, "parameters": {"period_seconds": 1, "correlated": True}}
    (done,) = perform(cluster, fault, readiness_gate=GATE)
    assert well([done]), done
    assert cluster.gates() == {"True"}
    assert {path for _, path in cluster.writes} == {
        f"/api/v1/namespaces/{NAMESPACE}/pods/{p}/status" for p in done.pods
    }


def test_commands_run_in_containers(cluster):
    fault = {"fault": "readiness-flap", "seconds": 2, "parameters": {"period_seconds": 1, "correlated": True}}
    hang, kill = {"fault": "pod-hang", "seconds": 0.5}, {"fault": "pod-kill", "seconds": 0.5}
    done = perform(cluster, fault, hang, kill, exec=EXEC)
    assert well(done), done
    assert cluster.unready == set()
    assert {(pod, "fail") for pod in done[0].pods} <= set(cluster.commands)
    assert (done[2].pods[0], "kill") in cluster.commands
    assert set(done[2].pods) <= cluster.names(), "it was started again, not replaced"
    assert cluster.writes == []


def test_a_failed_command_counts_as_not_injected(cluster):
    (done,) = perform(cluster, {"fault": "pod-hang", "seconds": 0.5}, exec={**EXEC, "stop": ["nothing", "there"]})
    assert not done.injected
    assert f"`nothing there` in {NAMESPACE}/{done.pods[0]}: exit code 127: not found" in done.errors[0]


def test_a_signal_dropped_by_the_kernel_counts_as_not_injected(cluster, monkeypatch):
    """`kill -STOP 1` inside a container exits with 0 and does nothing."""
    monkeypatch.setattr("chaos.perform.EVIDENCE_SECONDS", 1.0)
    (done,) = perform(cluster, {"fault": "pod-hang", "seconds": 0.5}, exec={**EXEC, "stop": ["pass"]})
    assert not done.injected and done.healed
    assert done.missing == [f"pod {done.pods[0]} has stopped True"]


def test_a_deployment_is_scaled_and_scaled_back(cluster):
    fault = {"fault": "endpoint-churn", "seconds": 1, "parameters": {"pods": 3, "every_seconds": 1}}
    (done,) = perform(cluster, fault)
    assert well([done]), done
    assert cluster.replicas() == 6


def test_a_permission_lost_during_a_run_is_a_clear_error(cluster):
    cluster.reviews, cluster.denied = False, {"delete pods"}
    (done,) = perform(cluster, {"fault": "pod-terminate", "seconds": 0.5})
    assert not done.injected
    assert "403: delete pods is forbidden" in done.errors[0] and "docs/chaos.md" in done.errors[0]
