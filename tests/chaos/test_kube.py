"""A real cluster as a target, against a served API with writes and controllers: asked first, bounded, put back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.experiment import read_experiment
from chaos.faults import FAULTS
from chaos.model import PlanError
from chaos.perform import Performed, Performer
from chaos.plan import Wanted, make_plan
from chaos.targets.kube.calls import CAN, takes_away
from chaos.targets.kube.guard import complaints
from chaos.targets.kube.scene import NodeView, Scene, drained, pod_view
from chaos.targets.kube.settings import KubeOptions, KubeSettings
from chaos.targets.kube.stage import KubeStage
from chaos.targets.kube.undo import Header, HealError, HealFile, Undo, read_heal_file
from harness.recording import open_source
from harness.recording.state import State, folded
from tests.chaos.stand import GATE, NAMESPACE, NODES, OTHER, SERVICE, Cluster, is_ready, pod_manifest, until

HARNESS = Path(sys.executable).with_name("harness")
EXEC = {"unready": ["fail"], "ready": ["pass"], "kill": ["kill"], "stop": ["pass"], "continue": ["pass"]}


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as made:
        yield made


def experiment(*faults: dict[str, Any], objectives: dict | None = None, **kube: Any) -> dict[str, Any]:
    """An experiment about the Service, under a little load."""
    activities = [
        {
            "type": "action",
            "name": fault["fault"],
            "provider": {"type": "python", "module": "chaos.actions", "func": "inject", "arguments": fault},
        }
        for fault in faults
    ]
    extension = {
        "name": "kube-proxy-harness",
        "load": {"arrivals_per_second": 40, "warm_up_seconds": 0.5, "cool_down_seconds": 0.5},
        "objectives": objectives or {"error_budget_percent": 1},
        "kube": {"namespace": NAMESPACE, "service": SERVICE, **kube},
    }
    probes = [
        {
            "type": "probe",
            "name": name,
            "tolerance": True,
            "provider": {"type": "python", "module": "chaos.probes", "func": name},
        }
        for name in ("all_pods_ready", "nodes_ready", "engines_healthy", "kernels_up_to_date")
    ]
    return {
        "title": "t",
        "description": "d",
        "controls": [{"name": "kube-proxy-harness", "provider": {"type": "python", "module": "chaos.control"}}],
        "steady-state-hypothesis": {"title": "all is well", "probes": probes},
        "method": activities,
        "extensions": [extension],
    }


def command(cluster: Cluster, verb: str, raw: dict[str, Any], *words: str, namespace: str = NAMESPACE) -> list[str]:
    path = cluster.folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(raw))
    return [
        str(HARNESS), "chaos", verb, str(path), "--target", "kube", "--kubeconfig", str(cluster.kubeconfig),
        "--namespace", namespace, *words,
    ]  # fmt: skip


def harness(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)


REALLY = ("--really", "--context", "staging")


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_without_the_flag_it_is_told_and_nothing_is_done(cluster, verb):
    raw = experiment({"fault": "pod-terminate", "seconds": 1}, {"fault": "node-drain", "seconds": 1})
    before = cluster.revisions()
    done = harness(command(cluster, verb, raw, "--max-pods-percent", "50"), cwd=cluster.folder)
    assert done.returncode == 0, done.stderr
    assert f"cluster: {cluster.url} (context staging)" in done.stdout
    assert f"DELETE /api/v1/namespaces/{NAMESPACE}/pods/web-" in done.stdout
    assert "heal: PATCH /api/v1/nodes/node-" in done.stdout
    assert "/pods/web-" in done.stdout and "/eviction" in done.stdout
    assert "0 missing" not in done.stdout and "granted" in done.stdout
    assert "DRY RUN: nothing was changed" in done.stdout
    assert cluster.revisions() == before
    assert cluster.writes == []
    assert {path.name for path in cluster.folder.iterdir()} == {"kubeconfig", "experiment.yaml"}


def test_a_plan_names_the_same_targets_as_the_run(cluster):
    words = [
        harness(command(cluster, verb, experiment({"fault": "pod-kill"}), "--seed", "5")).stdout
        for verb in ("plan", "run")
    ]
    assert words[0] == words[1]


TOO_FAR = {
    "another namespace": ({"fault": "pod-kill"}, {"namespaces": (OTHER,)}, f"namespace {NAMESPACE} is not allowed"),
    "no namespace": ({"fault": "pod-kill"}, {"namespaces": ()}, "allowed by --namespace: none"),
    "too many pods": (
        {"fault": "pod-kill", "parameters": {"pods": 2}},
        {},
        "2 of 6 pods at once (Service shop/web), 33 %; --max-pods-percent allows 30",
    ),
    "too many of a node": ({"fault": "node-drain"}, {}, "2 of 6 pods at once"),
    "too many others": (
        {"fault": "node-drain", "parameters": {"node": "node-1"}},
        {"namespaces": (NAMESPACE, OTHER), "max_pods_percent": 33.4, "others": 2},
        f"(other pods of namespace {OTHER})",
    ),
    "a node": ({"fault": "node-drain"}, {"max_nodes": 0, "max_pods_percent": 50}, "1 nodes at once; --max-nodes"),
    "scaled too far": ({"fault": "endpoint-churn"}, {}, "6 of 6 pods at once"),
    "an engine": ({"fault": "engine-crash"}, {}, "engine.signal is not to be had of a cluster's API"),
    "no command to stop": ({"fault": "pod-hang"}, {}, "needs the commands `exec: {stop, continue}`"),
    "no way to fail": ({"fault": "probe-timeout"}, {}, "a probe that hangs needs the commands"),
    "no command to kill": ({"fault": "crash-loop", "seconds": 9}, {}, "needs the command `exec: {kill}`"),
}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("untouched")) as made:
        yield made


@pytest.mark.parametrize("case", TOO_FAR)
def test_what_goes_too_far_is_refused_before_anything_happens(untouched, case, tmp_path):
    fault, limits, complaint = TOO_FAR[case]
    limits = {"namespaces": (NAMESPACE,), **limits}
    for number in range(limits.pop("others", 0)):
        for node in NODES:
            untouched.store.apply("pods", pod_manifest(f"more-{number}-{node}", node, OTHER))
        untouched.store.apply("pods", pod_manifest(f"crowd-{number}", "node-1", OTHER))
    options = KubeOptions(str(untouched.kubeconfig), "staging", really=True, **limits)
    before, stage = untouched.revisions(), KubeStage(options)
    # What may be done stands beside it, and must not happen either.
    faults = (fault, {"fault": "pod-terminate", "seconds": 0})
    with pytest.raises(PlanError) as refusal:
        stage.open(read_experiment(experiment(*faults)), 1, tmp_path, lambda line: None)
    assert complaint in str(refusal.value)
    assert stage.close() == []
    assert untouched.revisions() == before
    assert untouched.writes == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_is_done_as_it_says_or_refused_with_what_can_be_done(name):
    """With every command given, refused are those alone that no API call stands for."""
    nodes = tuple(NodeView(node, "127.0.0.1", True, True, False) for node in NODES)
    pods = tuple(pod_view(pod_manifest(f"web-{n}", NODES[n % 3])) for n in range(9))
    given_ = msgspec.convert({"exec": {**EXEC, "hang": ["hang"]}}, KubeSettings)
    scene = Scene("s", "c", NAMESPACE, SERVICE, {}, {}, pods, (), nodes, "web", 9)
    try:
        plan = make_plan([Wanted(name, 9, {})], scene.cluster, 1)
    except PlanError as error:
        assert "mode cluster has no rules" in str(error)
        return
    options = KubeOptions(namespaces=(NAMESPACE,), max_pods_percent=100)
    found = complaints(plan, scene, given_, options)
    words = {op.name for step in plan.steps for op in (*step.script.inject, *step.script.heal)}
    assert bool(found) is (not words <= CAN.keys())
    assert not found or found[0].endswith(f"A cluster target can do: {', '.join(CAN)}")


@given(
    faults=st.lists(
        st.sampled_from(["pod-kill", "pod-terminate", "node-drain", "endpoint-churn"]), min_size=1, max_size=4
    ),
    per_node=st.lists(st.integers(0, 5), min_size=3, max_size=3),
    others=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    percent=st.integers(0, 100),
    seed=st.integers(0, 99),
)
def test_what_is_let_through_keeps_within_bounds(faults, per_node, others, percent, seed):
    """Whatever the plan: of no group more than the percentage, on no more than one node, nothing elsewhere."""
    nodes = tuple(NodeView(node, "127.0.0.1", True, True, False) for node in NODES)
    placed = [node for node, count in zip(NODES, per_node, strict=True) for _ in range(count)]
    pods = tuple(pod_view(pod_manifest(f"web-{n}", node)) for n, node in enumerate(placed))
    else_ = [node for node, count in zip(NODES, others, strict=True) for _ in range(count)]
    more = tuple(pod_view(pod_manifest(f"till-{n}", node, OTHER)) for n, node in enumerate(else_))
    scene = Scene("s", "c", NAMESPACE, SERVICE, {}, {}, pods, more, nodes, "web", len(pods))
    plain = KubeSettings()
    try:
        plan = make_plan(
            [Wanted(fault, 3, {}) for fault in faults], scene.cluster, seed, lambda step: takes_away(step, plain)
        )
    except PlanError:
        return
    plan = drained(plan, scene)
    options = KubeOptions(namespaces=(NAMESPACE, OTHER), max_pods_percent=percent)
    if complaints(plan, scene, plain, options):
        return
    gone: set[tuple[str, str]] = set()
    for step in plan.steps:
        ops = [op for op in step.script.inject if "pod" in op.arguments]
        hit = {(op.arguments.get("namespace", NAMESPACE), op.arguments["pod"]) for op in ops}
        assert not hit & gone - {(OTHER, pod.name) for pod in more}
        gone |= hit
        for namespace, size in ((NAMESPACE, len(pods)), (OTHER, len(more))):
            assert 100 * sum(space == namespace for space, _ in hit) <= percent * size
        assert {namespace for namespace, _ in hit} <= {NAMESPACE, OTHER}


undos = st.builds(
    lambda n: Undo(f"node node-{n}", "node", {"node": f"node-{n}", "unschedulable": False}), st.integers(0, 3)
)


@settings(max_examples=30)
@given(steps=st.lists(st.tuples(st.booleans(), undos), max_size=8), part=st.floats(0, 1))
def test_a_heal_file_cut_off_anywhere_names_all_that_was_asked_for(steps, part, tmp_path_factory):
    """A change is on the disk before it is asked for: what a longer file knows as open, its beginning knew too."""
    folder = tmp_path_factory.mktemp("heal")
    heal = HealFile(folder, Header("https://one"))
    sizes, wanted = [heal.path.stat().st_size], [set()]
    for forward, undo in steps:
        heal.before(undo) if forward else heal.undone(undo.key)
        sizes.append(heal.path.stat().st_size)
        wanted.append(set(heal.open))
    heal.close()
    size = sizes[0] + round(part * (sizes[-1] - sizes[0]))
    whole = max(n for n, end in enumerate(sizes) if end <= size)
    heal.path.write_bytes(heal.path.read_bytes()[:size])
    header, left = read_heal_file(folder)
    assert header.server == "https://one"
    assert set(left) == wanted[whole]
    with pytest.raises(HealError, match="is about https://one, not https://two"):
        HealFile(folder, Header("https://two"))


def test_a_refusal_is_told_and_exits_with_2(cluster):
    for words in ((), (*REALLY, "--out", str(cluster.folder / "o"))):
        done = harness(command(cluster, "run", experiment({"fault": "engine-crash"}), *words))
        assert done.returncode == 2
        assert "engine.signal is not to be had of a cluster's API" in done.stderr
    assert cluster.writes == []


def test_the_cluster_has_to_be_named(cluster):
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


def test_a_missing_right_is_told_before_anything_happens(cluster):
    cluster.denied = {"create pods/eviction"}
    raw = experiment({"fault": "pod-terminate", "parameters": {"evict": True}})
    done = harness(command(cluster, "run", raw, *REALLY, "--out", str(cluster.folder / "o")))
    assert done.returncode == 2
    assert f"the right is missing: create pods/eviction in {NAMESPACE}" in done.stderr
    assert cluster.writes == []


def test_rights_that_nobody_tells_of_are_unknown(cluster):
    cluster.reviews = False
    done = harness(command(cluster, "plan", experiment({"fault": "pod-kill"})))
    assert done.returncode == 0
    assert "rights: 0 granted" in done.stdout and "unknown" in done.stdout


def test_a_cluster_that_is_not_well_is_left_alone(cluster):
    cluster.unready.add(sorted(cluster.names())[0])
    until(lambda: not all(map(is_ready, cluster.store.list("pods", NAMESPACE))), "a pod is not ready")
    done = harness(command(cluster, "run", experiment({"fault": "pod-kill"})))
    assert done.returncode == 2
    assert "5 pods are ready, 6 are wanted" in done.stderr


def perform(cluster: Cluster, *faults: dict[str, Any], **kube: Any) -> list[Performed]:
    """Every step on a stage without load, then close it."""
    allowed = (NAMESPACE, OTHER)
    options = KubeOptions(str(cluster.kubeconfig), "staging", False, allowed, None, 50.0, 1, True)
    stage, told = KubeStage(options), []
    folder = cluster.folder / "run"
    folder.mkdir()
    try:
        plan = stage.open(read_experiment(experiment(*faults, **kube)), 1, folder, told.append)
        done = []
        for step in plan.steps:
            done.append(Performer(stage.target, told.append).perform(step))
            until(stage.settled, "the cluster settles")
    finally:
        assert stage.close() == []
    assert read_heal_file(folder)[1] == {}
    with open_source(folder / "events.jsonl") as recording:
        phases = [msgspec.json.decode(e.object)["phase"] for e in folded(recording, State()) if e.type == "FAULT"]
    assert phases == ["inject", "heal"] * len(done)
    return done


def well(done: list[Performed]) -> bool:
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


def test_a_budget_is_waited_for(cluster):
    cluster.budget = 2
    (done,) = perform(cluster, {"fault": "pod-terminate", "seconds": 1, "parameters": {"evict": True}})
    assert well([done]), done
    assert len([path for method, path in cluster.writes if path.endswith("/eviction")]) == 3


def test_a_budget_is_not_waited_for_for_ever(cluster):
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
    assert set(done[2].pods) <= cluster.names(), "it was started anew, not replaced"
    assert cluster.writes == []


def test_a_command_that_fails_is_no_injection(cluster):
    (done,) = perform(cluster, {"fault": "pod-hang", "seconds": 0.5}, exec={**EXEC, "stop": ["nothing", "there"]})
    assert not done.injected
    assert f"`nothing there` in {NAMESPACE}/{done.pods[0]}: exit code 127: not found" in done.errors[0]


def test_a_deployment_is_scaled_and_scaled_back(cluster):
    fault = {"fault": "endpoint-churn", "seconds": 1, "parameters": {"pods": 3, "every_seconds": 1}}
    (done,) = perform(cluster, fault)
    assert well([done]), done
    assert cluster.replicas() == 6


def test_a_right_that_is_lost_on_the_way_is_a_clear_error(cluster):
    cluster.reviews, cluster.denied = False, {"delete pods"}
    (done,) = perform(cluster, {"fault": "pod-terminate", "seconds": 0.5})
    assert not done.injected
    assert "403: delete pods is forbidden" in done.errors[0] and "docs/chaos.md" in done.errors[0]


def test_a_run_under_load_is_judged_by_what_a_cluster_shows(cluster):
    objectives = {"error_budget_percent": 1, "node_convergence_seconds": 1, "failures_after_convergence": 0}
    raw = experiment({"fault": "pod-terminate", "seconds": 2}, objectives=objectives)
    out = cluster.folder / "out"
    done = harness(command(cluster, "run", raw, *REALLY, "--out", str(out)))
    assert done.returncode == 3, done.stderr + done.stdout
    verdict = json.loads((out / "verdict.json").read_text())
    judged = {j["objective"]: (j["value"], j.get("reason")) for j in verdict["judgements"]}
    unseen = "what a node's kernel holds cannot be read from outside the node"
    assert judged == {
        "error budget": (True, ""),
        "node convergence": (None, unseen),
        "lost after convergence": (None, unseen),
    }
    assert verdict["sent"] > 40 and verdict["lost"] == 0
    (finding,) = verdict["findings"]
    assert finding["injected"] and finding["healed"]
    assert 0 <= finding["slices_changed_seconds"] < 5
    assert 0 <= finding["readiness_lost_seconds"] < 5
    assert "not asked, for a cluster does not show it: kernels_up_to_date" in done.stderr
    rows = [json.loads(line) for line in (out / "load" / "here.jsonl").open()]
    (flow,) = [row for row in rows if row["kind"] == "flow"]
    assert flow["flow"] == "nodeport-http" and flow["answered"] == verdict["sent"]


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
def test_a_run_that_is_told_to_end_puts_everything_back(cluster, number):
    process = begun(cluster, DRAIN)
    process.send_signal(number)
    words, _ = process.communicate(timeout=SECONDS_TO_END)
    assert process.returncode == 3, words
    assert cluster.unschedulable() == []
    assert read_heal_file(cluster.folder / "out")[1] == {}
    assert "the experiment did not run to its end" in words
    assert not [path for method, path in cluster.writes if method == "DELETE"], "the second fault never came"


SECONDS_TO_END = 60


def test_after_a_kill_the_heal_command_puts_everything_back(cluster):
    process = begun(cluster, DRAIN)
    process.kill()
    process.communicate(timeout=SECONDS_TO_END)
    (node,) = cluster.unschedulable()
    out = cluster.folder / "out"
    again = harness(command(cluster, "run", DRAIN, *REALLY, "--out", str(out), "--max-pods-percent", "50"))
    assert again.returncode == 2
    assert f"harness chaos heal {out}" in again.stderr
    assert cluster.unschedulable() == [node]
    healed = harness([str(HARNESS), "chaos", "heal", str(out)])
    assert healed.returncode == 0, healed.stderr
    assert f"put back: node {node}" in healed.stdout
    assert cluster.unschedulable() == []
    twice = harness([str(HARNESS), "chaos", "heal", str(out)])
    assert (twice.returncode, twice.stdout) == (0, "nothing is left to put back\n")


def test_heal_says_what_it_cannot(cluster, tmp_path_factory):
    nothing = harness([str(HARNESS), "chaos", "heal", str(tmp_path_factory.mktemp("empty"))])
    assert nothing.returncode == 2
    assert "--target kube is needed" in nothing.stderr
    process = begun(cluster, DRAIN)
    process.kill()
    process.communicate(timeout=SECONDS_TO_END)
    out = cluster.folder / "out"
    cluster.denied = {"patch nodes"}
    failed = harness([str(HARNESS), "chaos", "heal", str(out)])
    assert failed.returncode == 1
    assert "was not put back" in failed.stderr and "403" in failed.stderr
    with Cluster(tmp_path_factory.mktemp("other")) as other:
        wrong = harness([str(HARNESS), "chaos", "heal", str(out), "--kubeconfig", str(other.kubeconfig)])
    assert wrong.returncode == 2
    assert f"is about {cluster.url}, not {other.url}" in wrong.stderr
