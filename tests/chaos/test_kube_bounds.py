"""The bounds of a run on a cluster, checked before anything happens."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.experiment import read_experiment
from chaos.faults import FAULTS
from chaos.model import PlanError
from chaos.plan import RequestedFault, make_plan
from chaos.targets.kube.calls import CAN, cannot, rights_of, takes_away
from chaos.targets.kube.guard import complaints
from chaos.targets.kube.scene import NodeView, Scene, drained, pod_view
from chaos.targets.kube.settings import KubeOptions, KubeSettings
from chaos.targets.kube.stage import KubeStage
from chaos.targets.kube.undo import HealError, HealFile, Undo, UndoHeader, read_heal_file
from tests.chaos.kube_experiment import EXEC, experiment
from tests.chaos.stand import NAMESPACE, NODES, OTHER, SERVICE, pod_manifest

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
    "a node": ({"fault": "node-drain"}, {"max_nodes": 0, "max_pods_percent": 50}, "1 node at once; --max-nodes"),
    "scaled too far": ({"fault": "endpoint-churn"}, {}, "6 of 6 pods at once"),
    "an engine": ({"fault": "engine-crash"}, {}, "engine.signal is not available through a cluster's API"),
    "no command to stop": ({"fault": "pod-hang"}, {}, "needs the commands `exec: {stop, continue}`"),
    "no way to fail": ({"fault": "probe-timeout"}, {}, "a probe that hangs needs the commands"),
    "no command to kill": ({"fault": "crash-loop", "seconds": 9}, {}, "needs the command `exec: {kill}`"),
}


@pytest.mark.parametrize("case", TOO_FAR)
def test_a_run_beyond_its_bounds_is_rejected_before_it_starts(untouched, case, tmp_path):
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
def test_every_fault_is_performed_or_rejected_with_alternatives(name):
    """With every command configured, only faults without an equivalent API call are rejected."""
    nodes = tuple(NodeView(node, "127.0.0.1", True, True, False) for node in NODES)
    pods = tuple(pod_view(pod_manifest(f"web-{n}", NODES[n % 3])) for n in range(9))
    given_ = msgspec.convert({"exec": {**EXEC, "hang": ["hang"]}}, KubeSettings)
    scene = Scene("s", "c", NAMESPACE, SERVICE, {}, {}, pods, (), nodes, "web", 9)
    try:
        plan = make_plan([RequestedFault(name, 9, {})], scene.cluster, 1)
    except PlanError as error:
        assert "mode cluster has no rules" in str(error)
        return
    options = KubeOptions(namespaces=(NAMESPACE,), max_pods_percent=100)
    found = complaints(plan, scene, given_, options)
    words = {op.name for step in plan.steps for op in (*step.script.inject, *step.script.heal)}
    assert bool(found) is (not words <= CAN.keys())
    assert not found or found[0].endswith(f"A cluster target supports: {', '.join(CAN)}")


@given(
    faults=st.lists(
        st.sampled_from(["pod-kill", "pod-terminate", "node-drain", "endpoint-churn"]), min_size=1, max_size=4
    ),
    per_node=st.lists(st.integers(0, 5), min_size=3, max_size=3),
    others=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    percent=st.integers(0, 100),
    seed=st.integers(0, 99),
)
def test_accepted_runs_stay_within_bounds(faults, per_node, others, percent, seed):
    """For any plan: at most the given percentage of each group, on at most one node, and nothing elsewhere."""
    nodes = tuple(NodeView(node, "127.0.0.1", True, True, False) for node in NODES)
    placed = [node for node, count in zip(NODES, per_node, strict=True) for _ in range(count)]
    pods = tuple(pod_view(pod_manifest(f"web-{n}", node)) for n, node in enumerate(placed))
    else_ = [node for node, count in zip(NODES, others, strict=True) for _ in range(count)]
    more = tuple(pod_view(pod_manifest(f"till-{n}", node, OTHER)) for n, node in enumerate(else_))
    scene = Scene("s", "c", NAMESPACE, SERVICE, {}, {}, pods, more, nodes, "web", len(pods))
    plain = KubeSettings()
    try:
        plan = make_plan(
            [RequestedFault(fault, 3, {}) for fault in faults],
            scene.cluster,
            seed,
            lambda step: takes_away(step, plain),
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
def test_a_truncated_heal_file_names_every_requested_change(steps, part, tmp_path_factory):
    """A change is written to disk before it is requested: open entries of a longer file are also in its beginning."""
    folder = tmp_path_factory.mktemp("heal")
    heal = HealFile(folder, UndoHeader("https://one"))
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
    with pytest.raises(HealError, match="belongs to https://one, not https://two"):
        HealFile(folder, UndoHeader("https://two"))


ROOT = Path(__file__).resolve().parents[2]


def test_the_deployed_roles_grant_exactly_what_runs_need():
    """Every fault that a cluster target can do, by command and by gate, against deploy/chaos/rbac.yaml."""
    roles = [r for r in yaml.safe_load_all((ROOT / "deploy/chaos/rbac.yaml").read_text()) if "rules" in r]
    granted = {
        (verb, group, resource)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    nodes = tuple(NodeView(node, "127.0.0.1", True, True, False) for node in NODES)
    pods = tuple(pod_view(pod_manifest(f"web-{n}", NODES[n % 3])) for n in range(9))
    scene = Scene("s", "c", NAMESPACE, SERVICE, {}, {}, pods, (), nodes, "web", 9)
    needed = set()
    for given_ in ({"exec": EXEC}, {"readiness_gate": "g"}, {}):
        kube = msgspec.convert(given_, KubeSettings)
        for name in sorted(FAULTS.keys() - {"rules-flushed", "rules-damaged"}):
            plan = make_plan([RequestedFault(name, 9, {})], scene.cluster, 1)
            if not any(cannot(op, kube) for step in plan.steps for op in step.script.inject):
                rights = rights_of(plan, kube, scene, [NAMESPACE])
                needed |= {(right.verb, right.group, right.resource) for right in rights}
    assert needed <= granted
    viewing = {("get", "", "nodes"), ("get", "discovery.k8s.io", "endpointslices")}
    assert granted - needed <= viewing
