"""Plans: one plan per seed; only existing targets are affected, and never all of them."""

from __future__ import annotations

import inspect
from random import Random
from typing import get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.experiment import LIBRARY, find, load_experiment, plan_of, predicted
from chaos.faults import FAULTS, fault_of
from chaos.model import Cluster, PlanError, Pod
from chaos.plan import RequestedFault, make_plan
from chaos.session import check
from chaos.targets.kube.settings import KubeOptions
from harness.lab.answers import NodeStatus, PodStatus
from harness.lab.control_plane.controllers import placed
from harness.lab.operations import Operations
from harness.lab.topology import LabOptions, node_manifest, nodes_of, pod_manifest

STATUS = {"pod": PodStatus, "node": NodeStatus}

clusters = st.builds(
    lambda nodes, pods: Cluster(
        tuple(f"node-{n}" for n in range(1, nodes + 1)),
        tuple(sorted((Pod(f"web-{n}", f"node-{n % nodes + 1}") for n in range(1, pods + 1)), key=lambda p: p.name)),
    ),
    st.integers(1, 5),
    st.integers(2, 30),
)
wanted = st.lists(
    st.builds(RequestedFault, st.sampled_from(sorted(FAULTS)), st.floats(0.5, 30), st.just({})), min_size=1, max_size=8
)


@given(wanted=wanted, cluster=clusters, seed=st.integers(0, 1 << 32))
def test_a_plan_depends_on_its_seed_and_names_existing_targets(wanted, cluster, seed):
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
        assert step.script.evidence or step.fault in ("rules-flushed", "rules-damaged")
        if step.fault in ("pod-terminate", "node-drain"):
            gone |= set(step.pods)
        if step.fault not in ("node-loss", "node-cut", "node-drain"):
            assert len(step.pods) < len(cluster.pods)


@given(cluster=clusters, seed=st.integers(0, 1000), other=st.sampled_from(sorted(FAULTS)))
def test_editing_one_step_does_not_change_the_others(cluster, seed, other):
    before = [RequestedFault("engine-crash", 1, {}), RequestedFault("readiness-flap", 9, {})]
    after = [RequestedFault(other, 3, {}), before[1]]
    if other in ("pod-terminate", "node-drain"):
        return  # they take pods away from what comes after them
    try:
        assert make_plan(before, cluster, seed).steps[1] == make_plan(after, cluster, seed).steps[1]
    except PlanError:
        return


def test_another_seed_is_another_plan():
    cluster = predicted(LabOptions())
    plans = {
        msgspec.json.encode(make_plan([RequestedFault("pod-kill", 1, {"pods": 3})], cluster, s).steps) for s in range(9)
    }
    assert len(plans) > 4


@given(nodes=st.integers(1, 6), pods=st.integers(0, 24))
def test_the_predicted_cluster_follows_from_the_replicas(nodes, pods):
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
def test_invalid_faults_are_refused_with_a_reason(fault, parameters, words):
    with pytest.raises(PlanError, match=words.replace("(", r"\(")):
        fault_of(fault, parameters)


@pytest.mark.parametrize(
    ("fault", "parameters", "words"),
    [
        ("pod-kill", {"pods": 12}, "step 1: 12 pods requested; there are 12, and at least one pod must be spared"),
        ("pod-kill", {"pods": 5, "node": "node-1"}, "there are 4 on node-1"),
        ("engine-crash", {"node": "node-9"}, "no node 'node-9'; there are: node-1, node-2, node-3"),
        ("readiness-flap", {"fraction": 1.0}, "fraction 1.0: must be between 0 and 1"),
        ("packet-loss", {"percent": 0}, "percent 0: must be 1 to 100"),
    ],
)
def test_an_unplannable_experiment_is_an_error_that_names_the_step(fault, parameters, words):
    with pytest.raises(PlanError, match=words):
        make_plan([RequestedFault(fault, 5, parameters)], predicted(LabOptions()), 1)


def test_every_experiment_of_the_library_can_be_planned_in_every_mode_and_all_faults_are_in_one():
    used = set()
    for path in LIBRARY.glob("*.yaml"):
        experiment = load_experiment(path)
        for mode in ("nftables", "iptables", "ipvs"):
            lab = msgspec.structs.replace(experiment.lab, mode=mode)
            plan = plan_of(experiment, predicted(lab), experiment.seed)
            used |= {step.fault for step in plan.steps}
    assert len(list(LIBRARY.glob("*.yaml"))) >= 10
    assert FAULTS.keys() == used


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("mode", ["nftables", "iptables", "ipvs"])
def test_operations_and_conditions_are_those_of_a_lab(fault, mode):
    """A misspelt operation, argument or field would show only in a run."""
    lab = LabOptions(mode=mode)
    (step,) = make_plan([RequestedFault(fault, 4, {})], predicted(lab), 1).steps
    for op in (*step.script.inject, *step.script.heal):
        if op.name in ("node.run", "broker.kill", "broker.start"):
            continue  # of the harness itself
        method = getattr(Operations, op.name.replace("pod.evict", "pod.delete").replace(".", "_"))
        inspect.signature(method).bind(None, **op.arguments)
        types = get_type_hints(method)
        for name, value in op.arguments.items():
            msgspec.convert(value, types[name])
    for condition in (*step.script.evidence, *step.script.healed, *step.script.at_the_end):
        if condition.kind in STATUS and not condition.command:
            assert condition.field in get_type_hints(STATUS[condition.kind]), condition


def test_the_gate_has_every_fault():
    gate = load_experiment(find("release-gate"))
    assert {want.fault for want in gate.faults} == FAULTS.keys()
    assert {want.fault for want in gate.faults if want.optional} == {"packet-delay", "broker-down"}
    assert gate.kafka


@pytest.mark.parametrize("name", ["release-gate", "release-gate-short"])
def test_the_objectives_of_the_gates(name):
    """Engines must catch up with what changed while they could not see it; faults last as long as that takes."""
    gate = load_experiment(find(name))
    asked = gate.objectives
    assert asked.node_convergence_seconds == 1 and asked.failures_after_convergence == 0
    assert asked.lost_outside_faults == 0 and asked.unaccounted_losses == 0 and asked.losses_within_bounds
    assert asked.kernels_as_the_api_says and asked.engine_growth_mb and asked.engine_cpu_percent
    flows = {flow for listed in gate.load.flows.values() for flow in listed}
    assert {"local-http", "nodeport-udp-kept", "clusterip-udp-kept"} <= flows
    noticed = gate.lab.probe_period_seconds * gate.lab.failure_threshold
    for want in gate.faults:
        if want.fault in ("pod-kill", "pod-hang", "probe-timeout"):
            assert want.seconds >= noticed + asked.node_convergence_seconds, want
        if want.fault in CHANGES:
            assert want.parameters["unready"] >= 2, want
            assert want.seconds >= noticed + 0.1, want


CHANGES = ("engine-crash", "engine-pause", "api-slow", "watch-drop", "gone-storm")


def test_changes_go_on_while_engines_cannot_see_them():
    for name in (*CHANGES, "api-down", "rules-flushed"):
        plan = make_plan([RequestedFault(name, 4, {"unready": 2})], predicted(LabOptions()), 1)
        (step,) = plan.steps
        words = [(op.name, op.arguments.get("word"), op.arguments.get("slices")) for op in step.script.inject]
        assert words.count(("pod.health", "fail", None)) == 2 and ("spares.set", None, 1) in words
        assert ("pod.health", "ok", None) in words, "one is ready again before it heals"
        assert "spares.set" not in [op.name for op in step.script.heal], "kernels are looked at without them"
        healed = {op.arguments["pod"] for op in step.script.heal if op.name == "pod.health"}
        assert healed == set(step.pods) and len(healed) == 2


class Without:
    """A target that has no way to do some operations."""

    def can(self, op):
        return "there is no broker" if op.name.startswith("broker.") else ""


def test_an_unsupported_step_is_skipped_if_optional_else_rejected():
    cluster = predicted(LabOptions())
    optional = make_plan(
        [RequestedFault("pod-kill", 1, {}), RequestedFault("broker-down", 1, {}, optional=True)], cluster, 1
    )
    assert check(optional, Without()) == {2: "broker-down: there is no broker"}
    with pytest.raises(PlanError, match=r"step 1 \(broker-down\): there is no broker"):
        check(make_plan([RequestedFault("broker-down", 1, {})], cluster, 1), Without())


@pytest.mark.parametrize("fault", ["readiness-flap", "probe-timeout"])
@pytest.mark.parametrize("pods", range(4, 60))
def test_a_fraction_is_never_exceeded_by_rounding(fault, pods):
    """A fault's own fraction keeps to what a cluster target allows when nothing is said of either."""
    cluster = Cluster(("n0", "n1", "n2"), tuple(Pod(f"p{n:02}", f"n{n % 3}") for n in range(pods)))
    chosen = fault_of(fault, {}).choose(cluster, Random(1))
    assert len(chosen.pods) * 100 <= KubeOptions().max_pods_percent * pods
