"""Judgement of a run's facts: each objective true, false and unknown, by synthetic runs with a known answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.objectives import Objectives
from chaos.verdict import Verdict, judge
from chaos.verdict.accounts import STAYED, wherever
from tests.chaos_report.runs import failure, fault, followed, usage, write_run

NODES = ("node-1", "node-2", "node-3")
READY = {0.0: ["web-1", "web-2", "web-3"], 6.0: ["web-2", "web-3"], 8.4: ["web-1", "web-2", "web-3"]}
ALL = {
    "node_convergence_seconds": 1,
    "failures_after_convergence": 0,
    "lost_outside_faults": 0,
    "unaccounted_losses": 0,
    "losses_within_bounds": True,
    "kernels_as_the_api_says": True,
    "engine_growth_mb": 8,
    "engine_cpu_percent": 25,
}
WELL: dict[str, list[str]] = {node: [] for node in NODES}


def killed(**fields: Any) -> dict[str, Any]:
    """web-1 was killed at 4 and started at 8, and every kernel was correct afterwards."""
    return fault(1, "pod-kill", 4.0, kernels=WELL, engines_back=8.1, **fields)


def dead(count: int = 60) -> list[dict[str, Any]]:
    """Requests to the dead pod until a little after it left the slices."""
    return [failure(4.1 + n * 2 / count) for n in range(count)]


def run(folder: Path, failures=None, observations=None, faults=None, **raw: Any) -> Verdict:
    """A successful run except for the arguments: web-1 dies at 4, leaves the slices at 6, every kernel follows."""
    let_go = [followed(node, 6.0, 0.02) for node in NODES]
    objectives = raw.pop("objectives", ALL)
    made = write_run(
        folder / "run", faults or [killed()], dead() if failures is None else failures,
        let_go if observations is None else observations,
        **{"ready": READY, "objectives": objectives, "kernels_before": WELL} | raw,
    )  # fmt: skip
    return judge(made)


def value(verdict: Verdict, objective: str) -> bool | None:
    (found,) = [judged for judged in verdict.judgements if judged.objective == objective]
    assert found.source, "where the number comes from is said"
    return found.value


def test_a_run_without_problems_is_true(tmp_path):
    verdict = run(tmp_path)
    assert verdict.value is True, verdict.summary()
    assert all(f"from {judged.source}" in verdict.summary() for judged in verdict.judgements if judged.source)
    assert verdict.findings[0].lost_by_account == {"the pod was down": 60}


@pytest.mark.parametrize(
    ("lag", "seen", "wanted"),
    [
        (0.5, True, True),
        (1.2, True, False),
        (0.1, False, True),
        (0.5, False, None),
        (1.2, False, False),
        (8.0, False, False),
    ],
    ids=["in time", "late", "undone at once", "undone soon", "undone late", "never"],
)
def test_a_change_not_followed_is_false_if_it_was_due_else_unknown(tmp_path, lag, seen, wanted):
    observations = [followed("node-1", 6.0, 0.02), followed("node-2", 6.0, lag, seen=seen)]
    assert value(run(tmp_path, observations=observations), "node convergence") is wanted


def test_no_change_to_follow_is_unknown(tmp_path):
    assert value(run(tmp_path, observations=[]), "node convergence") is None


def test_convergence_counts_from_when_a_node_could_receive_events(tmp_path):
    crash = fault(1, "engine-crash", 4.0, nodes=["node-2"], pods=[], kernels=WELL, engines_back=8.4)
    late = [followed("node-1", 6.0, 0.02), followed("node-2", 6.0, 2.9)]
    assert value(run(tmp_path, [], late, [crash]), "node convergence") is True
    late = [followed("node-1", 6.0, 0.02), followed("node-2", 6.0, 3.9)]
    assert value(run(tmp_path / "b", [], late, [crash]), "node convergence") is False
    others = [followed("node-1", 6.0, 2.9), followed("node-2", 6.0, 2.9)]
    assert value(run(tmp_path / "c", [], others, [crash]), "node convergence") is False


@pytest.mark.parametrize("at", [3.0, 12.0], ids=["before the first fault", "after the last"])
def test_losses_outside_of_faults_are_false(tmp_path, at):
    verdict = run(tmp_path, [*dead(), failure(at, pod="web-2")])
    assert value(verdict, "lost outside faults") is False
    assert verdict.value is False


LOST = {
    "no endpoint is known of it": {"pod": None, "endpoint": None},
    "its pod was well": {"pod": "web-2"},
    "its pod had left the slices long ago": {"at_ns": 1_000_000_000_000 + int(7.5e9)},
}


@pytest.mark.parametrize("fields", LOST.values(), ids=LOST)
def test_a_loss_that_the_fault_does_not_account_for_is_false(tmp_path, fields):
    verdict = run(tmp_path, [*dead(), failure(5.0) | fields])
    assert value(verdict, "lost without account") is False
    assert verdict.findings[0].unaccounted == 1


def test_losses_to_a_dead_pod_after_all_nodes_removed_it_are_false(tmp_path):
    assert value(run(tmp_path, [*dead(), failure(7.5)]), "lost after convergence") is False


@pytest.mark.parametrize(("at", "word"), [(10.05, STAYED), (10.9, STAYED), (11.2, "")])
def test_a_sticky_client_may_lose_requests_until_kernels_had_to_remove_the_pod(at, word):
    """The pod terminates from 8 and is gone at 10; who waits for an answer learns a second later that none comes."""
    facts = SimpleNamespace(
        run=SimpleNamespace(lab=None, objectives=Objectives(node_convergence_seconds=1)),
        terminated={"web-1": [(8.0, 10.0)]},
        left={},
    )
    lost = SimpleNamespace(flow="nodeport-udp-kept", node="node-1", pod="web-1", at=at, ended=at + 1.0)
    assert wherever(lost, facts) == word


def test_connections_older_than_a_pods_death_are_lost_with_it(tmp_path):
    """Long after it left the slices; a new connection that goes there is the engine's."""
    for number, fields in enumerate(({"flow": "clusterip-http-keepalive"}, {"older": True})):
        lost = failure(7.5, cause="timeout", **fields)
        verdict = run(tmp_path / str(number), [*dead(), lost])
        assert value(verdict, "lost without account") is True and value(verdict, "lost after convergence") is True
    assert value(run(tmp_path / "new", [*dead(), failure(7.5, cause="timeout")]), "lost without account") is False


@pytest.mark.parametrize(("flow", "wanted"), [("balancer-http", True), ("clusterip-udp-kept", False)])
def test_a_reused_port_is_attributed_to_the_lost_connection_before(tmp_path, flow, wanted):
    """Long after the fault, to an address that no pod has any more; stale flows of UDP are the proxy's to remove."""
    fields = {"flow": flow, "cause": "timeout", "endpoint": "10.120.1.9:8080", "pod": None}
    found = run(tmp_path, [*dead(), failure(9.6, older=True, **fields)])
    assert value(found, "lost outside faults") is wanted


def test_requests_through_a_partitioned_node_do_not_count_against_the_engine(tmp_path):
    cut = fault(1, "node-cut", 4.0, nodes=["node-1"], kernels=WELL, engines_back=8.2)
    lost = [failure(4.1 + n / 40, cause="timeout", pod=None, node="node-1") for n in range(150)]
    lost += [failure(4.5, cause="timeout", flow="balancer-http", node=None, pod=None)]
    verdict = run(tmp_path, lost, faults=[cut])
    assert value(verdict, "lost without account") is True
    assert value(verdict, "lost after convergence") is True
    other = run(tmp_path / "b", [*lost, failure(5.0, cause="timeout", pod=None, node="node-2")], faults=[cut])
    assert value(other, "lost without account") is False


def test_a_load_balancer_that_removes_a_lossy_node_moves_connections(tmp_path):
    """Its health checks are lost as well; losses directly through another node count against the engine."""
    lossy = fault(1, "packet-loss", 4.0, nodes=["node-2"], pods=[], kernels=WELL, engines_back=8.2)
    moved = failure(5.0, cause="timeout", flow="balancer-http", node="node-3", pod="web-3")
    assert value(run(tmp_path, [moved], faults=[lossy]), "lost without account") is True
    straight = moved | {"flow": "nodeport-http"}
    assert value(run(tmp_path / "b", [straight], faults=[lossy]), "lost without account") is False


@pytest.mark.parametrize(
    ("at", "fields", "excused"),
    [
        (9.5, {}, True),
        (9.5, {"cause": "timeout", "older": True}, True),
        (10.9, {}, True),
        (11.5, {}, False),
        (9.5, {"cause": "refused"}, False),
        (9.5, {"flow": "nodeport-http"}, False),
        (9.5, {"flow": "clusterip-http", "node": "node-3"}, False),
    ],
    ids=[
        "added again",
        "matched to an earlier one",
        "after the settling",
        "long after",
        "refused",
        "straight",
        "inside",
    ],
)
def test_a_load_balancer_adds_a_node_after_the_heal_and_moves_connections(tmp_path, at, fields, excused):
    """It notices at its next check that a node is back; ended at 8, engines back at 8.2, settled at 10."""
    cut = fault(1, "node-cut", 4.0, nodes=["node-1"], pods=[], kernels=WELL, engines_back=8.2, settled=10.0)
    during = [failure(4.1 + n / 40, cause="timeout", pod=None, node="node-1") for n in range(150)]
    lost = failure(at, **{"cause": "reset", "flow": "balancer-http", "node": "node-2", "pod": "web-3"} | fields)
    found = run(tmp_path, [*during, lost], faults=[cut])
    assert (value(found, "lost without account") and value(found, "lost outside faults")) is excused


@pytest.mark.parametrize("count", [0, 400], ids=["too few", "too many"])
def test_losses_outside_the_bounds_are_false(tmp_path, count):
    assert value(run(tmp_path, dead(count)), "losses within bounds") is False


def test_a_kernel_that_differs_is_false_and_an_unread_one_unknown(tmp_path):
    wrong = run(tmp_path, faults=[killed() | {"kernels": WELL | {"node-2": ["10.0.0.1 tcp/80: expected ..."]}}])
    assert value(wrong, "kernels") is False and wrong.value is False
    assert value(run(tmp_path / "b", faults=[killed() | {"kernels": None}]), "kernels") is None
    assert value(run(tmp_path / "c", kernels_before=WELL | {"node-1": ["x"]}), "kernels") is False
    assert value(run(tmp_path / "d", kernels_after=WELL | {"node-1": ["x"]}), "kernels") is False
    assert value(run(tmp_path / "e", kernels_after=None), "kernels") is None


@pytest.mark.parametrize(("back", "wanted"), [(8.9, True), (19.0, False), (None, None)])
def test_engines_that_restart_late_are_false(tmp_path, back, wanted):
    gone = fault(1, "gone-storm", 4.0, pods=[], kernels=WELL, engines_back=back)
    assert value(run(tmp_path, failures=[], faults=[gone]), "engines back") is wanted


def test_full_syncs_that_no_fault_explains_are_false(tmp_path):
    crash = fault(1, "engine-crash", 4.0, nodes=["node-2"], pods=[], kernels=WELL, engines_back=8.4)
    full_syncs = {"node-1": [9.0], "node-2": [8.3], "node-3": None}
    verdict = run(tmp_path, failures=[], faults=[crash], rewrites=full_syncs)
    assert value(verdict, "whole rewrites") is False
    assert value(run(tmp_path / "b", failures=[], faults=[crash], rewrites={"node-2": [8.3]}), "whole rewrites") is True
    unseen = run(tmp_path / "c", rewrites={"node-3": None})
    assert "whole rewrites" not in {judged.objective for judged in unseen.judgements}


def test_engines_that_leak_or_use_too_much_cpu_are_false_and_unmeasured_ones_unknown(tmp_path):
    leaking = run(tmp_path, usage=usage(20.0, node_2={"memory_bytes": 60 << 20}))
    assert value(leaking, "engine memory growth") is False and value(leaking, "engine CPU") is True
    burning = run(tmp_path / "b", usage=usage(20.0, node_3={"cpu_seconds": 9.0}))
    assert value(burning, "engine CPU") is False and value(burning, "engine memory growth") is True
    again = run(tmp_path / "c", usage=usage(20.0, node_3={"cpu_seconds": 9.0, "pid": 77, "memory_bytes": 60 << 20}))
    assert value(again, "engine CPU") is False, "one that was started again counts from its start"
    unseen = run(tmp_path / "d", usage=[])
    assert value(unseen, "engine CPU") is None and value(unseen, "engine memory growth") is None


@pytest.mark.parametrize(
    ("moments", "wanted"),
    [
        ([9.5, 10.6, 10.65, 11.8], True),
        ([9.5, 10.7, 11.5], True),
        ([9.5, 10.2, 10.9, 11.6], False),
        ([9.5, 9.9], False),
        ([9.5], None),
        (None, None),
    ],
    ids=["paced", "announced late once", "too soon, again and again", "far too soon", "one", "unseen"],
)
def test_syncs_closer_than_minsyncperiod_are_false(tmp_path, moments, wanted):
    lab = {"nodes": 3, "pods": 4, "min_sync_period_seconds": 1.0}
    families = moments and {"IPv4": moments, "IPv6": [at + 0.4 for at in moments]}
    verdict = run(tmp_path, lab=lab, transactions={NODES[0]: families})
    assert value(verdict, "syncs") is wanted


STALLED = {
    "late": ({"late": 2}, "% of requests were sent late"),
    "not sent": ({"total": {"not_sent": 5}}, "due but not sent"),
    "vanished": ({"total": {"due": 2000}}, "no outcome in the log"),
    "killed": (
        {"load": [{"name": "client", "where": "client", "file": "load/client.jsonl", "exit_code": -9}]},
        "it ended with exit code -9",
    ),
}


@pytest.mark.parametrize(("raw", "words"), STALLED.values(), ids=STALLED)
def test_a_load_generator_that_was_held_up_makes_the_run_unknown(tmp_path, raw, words):
    verdict = run(tmp_path, **raw)
    assert verdict.value is None, verdict.summary()
    assert any(words in problem for problem in verdict.problems), verdict.problems


def test_a_run_without_requests_is_not_true(tmp_path):
    objectives = ALL | {"error_budget_percent": 1, "max_lost_requests": 0, "latency_p99_ms": 100}
    objectives["faults"] = {"pod-kill": {"max_lost_requests": 0}}
    nothing = {"sent": 0, "answered": 0, "failed": 0}
    verdict = run(tmp_path, [], objectives=objectives, total=nothing, rate=0)
    about_load = ("error budget", "requests lost", "latency p99", "lost outside faults", "lost without account",
                  "losses within bounds", "pod-kill: requests lost")  # fmt: skip
    values = {judged.objective: judged.value for judged in verdict.judgements}
    assert [values[name] for name in about_load[:2]] == [None, None]
    assert {values[name] for name in about_load if name != "latency p99"} == {None}


@pytest.mark.parametrize("seconds", [None, 2.0], ids=["over too soon", "not long enough"])
def test_a_fault_in_force_for_less_than_asked_proves_nothing(tmp_path, seconds):
    verdict = run(tmp_path, faults=[killed(in_force_seconds=seconds)])
    assert verdict.value is None
    assert "1. pod-kill: " in verdict.problems[0]


def test_skipped_steps_are_reported(tmp_path):
    verdict = run(tmp_path, skipped={"2": "packet-delay: the kernel has no netem"})
    assert verdict.skipped == ["packet-delay: the kernel has no netem"]
    assert "SKIPPED packet-delay" in verdict.summary()
