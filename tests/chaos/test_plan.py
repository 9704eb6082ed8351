"""Plans: one seed, one plan; nobody is hit who is not there, and never everybody."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.experiment import LIBRARY, find, load_experiment, plan_of, predicted
from chaos.faults import FAULTS, fault_of
from chaos.model import Cluster, PlanError, Pod
from chaos.plan import Wanted, make_plan
from harness.lab.controllers import placed
from harness.lab.topology import LabOptions, node_manifest, nodes_of, pod_manifest

clusters = st.builds(
    lambda nodes, pods: Cluster(
        tuple(f"node-{n}" for n in range(1, nodes + 1)),
        tuple(sorted((Pod(f"web-{n}", f"node-{n % nodes + 1}") for n in range(1, pods + 1)), key=lambda p: p.name)),
    ),
    st.integers(1, 5),
    st.integers(2, 30),
)
wanted = st.lists(
    st.builds(Wanted, st.sampled_from(sorted(FAULTS)), st.floats(0.5, 30), st.just({})), min_size=1, max_size=8
)


@given(wanted=wanted, cluster=clusters, seed=st.integers(0, 1 << 32))
def test_a_plan_is_its_seed_s_and_hits_only_whom_there_is(wanted, cluster, seed):
    try:
        plan = make_plan(wanted, cluster, seed)
    except PlanError as error:
        assert "step" in str(error)
        return
    assert msgspec.json.encode(make_plan(wanted, cluster, seed)) == msgspec.json.encode(plan)
    gone: set[str] = set()
    for step in plan.steps:
        assert set(step.pods) <= {pod.name for pod in cluster.pods} - gone
        assert set(step.nodes) <= set(cluster.nodes)
        times = [op.at for op in step.script.inject]
        assert times == sorted(times)
        assert step.script.inject
        assert step.script.evidence
        if step.fault in ("pod-terminate", "node-drain"):
            gone |= set(step.pods)
        if step.fault not in ("node-loss", "node-cut", "node-drain"):
            assert len(step.pods) < len(cluster.pods)


@given(cluster=clusters, seed=st.integers(0, 1000), other=st.sampled_from(sorted(FAULTS)))
def test_editing_one_step_leaves_the_others_as_they_were(cluster, seed, other):
    before = [Wanted("engine-crash", 1, {}), Wanted("readiness-flap", 9, {})]
    after = [Wanted(other, 3, {}), before[1]]
    if other in ("pod-terminate", "node-drain"):
        return  # they take pods away from what comes after them
    try:
        assert make_plan(before, cluster, seed).steps[1] == make_plan(after, cluster, seed).steps[1]
    except PlanError:
        return


def test_another_seed_is_another_plan():
    cluster = predicted(LabOptions())
    plans = {msgspec.json.encode(make_plan([Wanted("pod-kill", 1, {"pods": 3})], cluster, s).steps) for s in range(9)}
    assert len(plans) > 4


@given(nodes=st.integers(1, 6), pods=st.integers(0, 24))
def test_the_predicted_cluster_is_the_one_that_the_replicas_make(nodes, pods):
    options = LabOptions(nodes=nodes, pods=pods)
    manifests, there = [node_manifest(n) for n in nodes_of(options)], []
    for number in range(1, pods + 1):
        there.append(pod_manifest(f"web-{number}", placed(there, manifests), options))
    made = {(p["metadata"]["name"], p["spec"]["nodeName"]) for p in there}
    assert {(pod.name, pod.node) for pod in predicted(options).pods} == made


@pytest.mark.parametrize(
    ("fault", "parameters", "words"),
    [
        ("earthquake", {}, "unknown fault 'earthquake'; there are: api-down"),
        ("pod-kill", {"podz": 1}, "pod-kill has no parameter 'podz'; it takes: pods, node"),
        ("pod-kill", {"pods": "many"}, "pod-kill: Expected `int`"),
    ],
)
def test_what_makes_no_fault_is_refused_in_words(fault, parameters, words):
    with pytest.raises(PlanError, match=words.replace("(", r"\(")):
        fault_of(fault, parameters)


@pytest.mark.parametrize(
    ("fault", "parameters", "words"),
    [
        ("pod-kill", {"pods": 12}, "step 1: 12 pods asked for; there are 12, and one pod at least must be spared"),
        ("pod-kill", {"pods": 5, "node": "node-1"}, "there are 4 on node-1"),
        ("engine-crash", {"node": "node-9"}, "no node 'node-9'; there are: node-1, node-2, node-3"),
        ("readiness-flap", {"fraction": 1.0}, "fraction 1.0; a number between 0 and 1 is needed"),
        ("packet-loss", {"percent": 0}, "percent 0; 1 to 100 is needed"),
    ],
)
def test_what_cannot_be_planned_names_the_step(fault, parameters, words):
    with pytest.raises(PlanError, match=words):
        make_plan([Wanted(fault, 5, parameters)], predicted(LabOptions()), 1)


def test_every_experiment_of_the_library_can_be_planned_in_every_mode_and_all_faults_are_in_one():
    used = set()
    for path in LIBRARY.glob("*.yaml"):
        experiment = load_experiment(path)
        for mode in ("nftables", "iptables", "ipvs"):
            lab = msgspec.structs.replace(experiment.lab, mode=mode)
            plan = plan_of(experiment, predicted(lab), experiment.seed)
            used |= {step.fault for step in plan.steps}
    assert len(list(LIBRARY.glob("*.yaml"))) >= 10
    assert FAULTS.keys() - used == {"packet-delay"}, "it needs netem, which not every kernel has"


def test_the_gate_has_every_fault_that_a_lab_alone_can_have():
    gate = {want.fault for want in load_experiment(find("release-gate")).faults}
    assert FAULTS.keys() - gate == {"packet-delay", "broker-down"}
