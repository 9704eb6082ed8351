"""`harness chaos` on a cluster: confirmed, performed, interrupted, healed."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest

from chaos.targets.kube.undo import read_heal_file
from tests.chaos.kube_experiment import HARNESS, REALLY, command, experiment, harness
from tests.chaos.stand import NAMESPACE, Cluster, is_ready
from tests.waiting import until


def test_without_the_flag_the_plan_is_printed_and_nothing_is_done(cluster):
    raw = experiment({"fault": "pod-terminate", "seconds": 1}, {"fault": "node-drain", "seconds": 1})
    before = cluster.revisions()
    words = ("--max-pods-percent", "50", "--seed", "5")
    planned, run = (harness(command(cluster, verb, raw, *words), cwd=cluster.folder) for verb in ("plan", "run"))
    assert (planned.returncode, run.returncode) == (0, 0), planned.stderr + run.stderr
    assert planned.stdout == run.stdout
    for part in (
        f"cluster: {cluster.url} (context staging)",
        "seed 5",
        f"DELETE /api/v1/namespaces/{NAMESPACE}/pods/web-",
        "heal: PATCH /api/v1/nodes/node-",
        "/eviction",
        " granted\n",
        "DRY RUN: nothing was changed",
    ):
        assert part in run.stdout
    assert cluster.revisions() == before
    assert cluster.writes == []
    assert {path.name for path in cluster.folder.iterdir()} == {"kubeconfig", "experiment.yaml"}


def test_a_refusal_is_reported_and_exits_with_2(cluster):
    for words in ((), (*REALLY, "--out", str(cluster.folder / "o"))):
        done = harness(command(cluster, "run", experiment({"fault": "engine-crash"}), *words))
        assert done.returncode == 2
        assert "engine.signal is not available through a cluster's API" in done.stderr
    assert cluster.writes == []


def test_the_cluster_must_be_named(cluster):
    done = harness(
        command(cluster, "run", experiment({"fault": "pod-kill"}), "--really", "--out", str(cluster.folder / "o"))
    )
    assert done.returncode == 2
    assert "--context staging is the current one" in done.stderr
    assert cluster.writes == []


def test_an_unknown_context_is_refused(cluster):
    done = harness(command(cluster, "run", experiment({"fault": "pod-kill"}), "--context", "prod"))
    assert done.returncode == 2
    assert "prod" in done.stderr


def test_a_missing_permission_is_reported_before_anything_happens(cluster):
    cluster.denied = {"create pods/eviction"}
    raw = experiment({"fault": "pod-terminate", "parameters": {"evict": True}})
    done = harness(command(cluster, "run", raw, *REALLY, "--out", str(cluster.folder / "o")))
    assert done.returncode == 2
    assert f"missing permission: create pods/eviction in {NAMESPACE}" in done.stderr
    assert cluster.writes == []


def test_permissions_that_cannot_be_queried_are_unknown(cluster):
    cluster.reviews = False
    done = harness(command(cluster, "plan", experiment({"fault": "pod-kill"})))
    assert done.returncode == 0
    assert "permissions: 0 granted" in done.stdout and "unknown" in done.stdout


def test_an_unhealthy_cluster_is_not_touched(cluster):
    cluster.unready.add(sorted(cluster.names())[0])
    until(lambda: not all(map(is_ready, cluster.store.list("pods", NAMESPACE))), "a pod is not ready")
    done = harness(command(cluster, "run", experiment({"fault": "pod-kill"})))
    assert done.returncode == 2
    assert "5 pods ready, 6 desired" in done.stderr


def test_a_run_under_load_is_judged_by_the_clusters_observations(cluster):
    objectives = {"error_budget_percent": 10, "node_convergence_seconds": 1, "failures_after_convergence": 0}
    raw = experiment({"fault": "pod-terminate", "seconds": 2}, objectives=objectives)
    out = cluster.folder / "out"
    done = harness(command(cluster, "run", raw, *REALLY, "--out", str(out)))
    assert done.returncode == 3, done.stderr + done.stdout
    verdict = json.loads((out / "verdict.json").read_text())
    judged = {j["objective"]: (j["value"], j.get("reason")) for j in verdict["judgements"]}
    unseen = "a node's kernel state cannot be read from outside the node"
    assert judged == {
        "hypothesis: all is well": (True, ""),
        "error budget": (True, ""),
        "node convergence": (None, unseen),
        "lost after convergence": (None, unseen),
    }
    assert verdict["sent"] > 40 and verdict["lost"] <= verdict["sent"] / 10, "a busy machine answers a few too late"
    (finding,) = verdict["findings"]
    assert finding["injected"] and finding["healed"]
    assert 0 <= finding["slices_changed_seconds"] < 5
    assert 0 <= finding["readiness_lost_seconds"] < 5
    assert "probe skipped, as a cluster's API does not show it: kernels_up_to_date" in done.stderr
    assert f"--target kube --context staging --namespace {NAMESPACE}" in (out / "report.md").read_text()
    rows = [json.loads(line) for line in (out / "load" / "here.jsonl").open()]
    (flow,) = [row for row in rows if row["kind"] == "flow"]
    assert flow["flow"] == "nodeport-http" and flow["answered"] == verdict["sent"] - verdict["lost"]


def begun(cluster: Cluster, raw: dict[str, Any]) -> subprocess.Popen[str]:
    """A run that has cordoned a node and waits for a budget."""
    cluster.budget = 1000
    line = command(cluster, "run", raw, *REALLY, "--out", str(cluster.folder / "out"), "--max-pods-percent", "50")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until(lambda: cluster.unschedulable() or process.poll() is not None, "a node is cordoned")
    assert process.poll() is None, process.stdout.read()
    return process


DRAIN = experiment({"fault": "node-drain", "seconds": 30}, {"fault": "pod-kill", "seconds": 1}, evict_seconds=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_gets_a_signal_heals_everything(cluster, number):
    process = begun(cluster, DRAIN)
    process.send_signal(number)
    words, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, words
    assert cluster.unschedulable() == []
    assert read_heal_file(cluster.folder / "out")[1] == {}
    assert "the experiment did not run to its end" in words
    assert not [path for method, path in cluster.writes if method == "DELETE"], "the second fault never came"


def heal(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return harness([str(HARNESS), "chaos", "heal", str(cluster.folder / "out"), *words])


def test_after_a_kill_the_heal_command_heals_everything(cluster, tmp_path_factory):
    process = begun(cluster, DRAIN)
    process.kill()
    process.communicate(timeout=60)
    (node,) = cluster.unschedulable()

    out = ("--out", str(cluster.folder / "out"))
    again = harness(command(cluster, "run", DRAIN, *REALLY, *out, "--max-pods-percent", "50"))
    assert again.returncode == 2
    assert f"harness chaos heal {out[1]}" in again.stderr

    with Cluster(tmp_path_factory.mktemp("other")) as other:
        wrong = heal(cluster, "--kubeconfig", str(other.kubeconfig))
    assert wrong.returncode == 2
    assert f"belongs to {cluster.url}, not {other.url}" in wrong.stderr

    cluster.denied = {"patch nodes"}
    forbidden = heal(cluster)
    assert forbidden.returncode == 1
    assert f"node {node} was not restored" in forbidden.stderr and "403" in forbidden.stderr
    assert cluster.unschedulable() == [node]

    cluster.denied = set()
    healed = heal(cluster)
    assert healed.returncode == 0, healed.stderr
    assert f"restored: node {node}" in healed.stdout
    assert cluster.unschedulable() == []
    twice = heal(cluster)
    assert (twice.returncode, twice.stdout) == (0, "nothing to restore\n")


def test_a_folder_without_a_run_cannot_be_healed(tmp_path):
    done = harness([str(HARNESS), "chaos", "heal", str(tmp_path)])
    assert done.returncode == 2
    assert "--target kube" in done.stderr
