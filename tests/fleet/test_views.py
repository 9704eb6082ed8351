"""A node's view is what its own replay sends, and views add up to a fleet's figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.fleet.cost import Cost
from harness.fleet.scenario import RECORDED, Scenario, scenarios
from harness.fleet.share import share_of
from harness.fleet.stage import NS, FleetSettings, staged
from harness.fleet.tape import read_tape
from harness.fleet.view import EFFECTS, NO_SYNC, view
from harness.fleet.work import measured, prepared, share, view_of
from harness.replay.kernels import open_kernel
from harness.replay.session import ReplayOptions, ReplaySession

DEMO, RULES = "recordings/demo.jsonl", "recordings/rules.jsonl"
SECOND, COST = Scenario(RECORDED, NS), Cost(1e-4, 1e-5)


def replayed(source: str, mode: str, node: str, period: int = NS):
    with open_kernel("memory", mode) as target:
        options = ReplayOptions(mode=mode, min_sync_period=period, node=node, verify="none")
        return ReplaySession(source, options, target, lambda *_: None).run()


@pytest.mark.parametrize("mode", ["nftables", "iptables", "ipvs", "userspace"])
@pytest.mark.parametrize("source", [DEMO, RULES])
def test_every_node_sees_what_its_own_replay_sends(source, mode):
    tape = read_tape(source)
    found = share(prepared(tape, SECOND, FleetSettings(mode)), COST, list(tape.nodes))
    assert [each.node for each in found.nodes] == list(tape.nodes)
    nodes = found.nodes if mode == "nftables" else found.nodes[::3]
    for each in nodes:
        alone = replayed(source, mode, each.node)
        assert each.digest == alone.digest
        assert (each.operations + each.initial_operations, each.bytes + each.initial_bytes, each.syncs + 1) == (
            alone.operations, alone.bytes, alone.syncs,
        )  # fmt: skip
        assert each.changes == alone.change.count
    assert len({each.digest for each in found.nodes}) == len(tape.nodes), "nodes do differ"


def test_convergence_is_that_of_the_replay_up_to_the_cost_of_a_sync():
    tape = read_tape(DEMO)
    for scenario in scenarios(SECOND, ["minSyncPeriod=5s"]):
        cost = measured(tape, scenario, FleetSettings("nftables"))
        [node] = share(prepared(tape, scenario, FleetSettings("nftables")), cost, ["node-0002"]).nodes
        whole = replayed(DEMO, "nftables", "node-0002", scenario.min_sync_period).change.convergence_seconds
        slowest = cost.seconds(1000)
        assert node.convergence["p50"] == pytest.approx(whole["p50"], abs=slowest + 0.2)
        assert node.convergence["p99"] > 0.9 * scenario.min_sync_period / NS


def test_a_node_counts_once():
    ready = prepared(read_tape(DEMO), SECOND, FleetSettings("nftables"))
    total = share(ready, COST, ["node-0001"])
    total.add(share(ready, COST, ["node-0002"]))
    assert len(total.nodes) == 2 and max(total.touched.nodes) == 2
    with pytest.raises(ValueError, match="counted twice: node-0002"):
        total.add(share(ready, COST, ["node-0002"]))


def test_the_last_node_is_the_one_with_the_most_to_do():
    tape = read_tape(DEMO)
    stage = replace(staged(tape, SECOND, FleetSettings("nftables")), cost=COST)
    views = {node: view(stage, node) for node in tape.nodes}
    found = share_of(stage, views.values())
    for n, batch in enumerate(stage.batches, 1):
        for number in range(batch.first, batch.first + len(batch.changes)):
            touching = {node: each for node, each in views.items() if EFFECTS[each.effects[number]] == "sent"}
            assert found.touched.nodes[number] == len(touching)
            if touching:
                most = max(each.operations[n] for each in touching.values())
                assert views[found.touched.last_node[number]].operations[n] == most != NO_SYNC


def test_a_node_that_joins_later_is_named_and_one_that_leaves_is_viewed():
    tape = read_tape("recordings/demo.jsonl")
    assert tape.leaving and not tape.late
    left = next(iter(tape.leaving))
    ready = prepared(tape, SECOND, FleetSettings("nftables"))
    assert share(ready, COST, [left]).nodes[0].digest == replayed(DEMO, "nftables", left).digest


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """Both families, policies, affinity, source ranges; endpoints of several nodes each."""
    path = tmp_path_factory.mktemp("fleet") / "synthetic.jsonl"
    options = ["--services", "60", "--nodes", "12", "--churn", "300", "--dual-stack", "--rich", "--seed", "7"]
    assert CliRunner().invoke(main, ["synth", str(path), *options]).exit_code == 0
    return read_tape(str(path))


@pytest.mark.parametrize("varied", [Scenario("", NS), Scenario("", 20 * NS), Scenario("", NS, hints=False)])
def test_what_is_shared_changes_nothing_in_a_view(synthetic, varied):
    ready = prepared(synthetic, varied, FleetSettings("nftables"))
    assert ready.shared
    for node in synthetic.nodes:
        quick, alone = view_of(ready, node), view(ready.stage, node)
        assert quick.digest == alone.digest
        assert (quick.operations, quick.bytes, quick.effects) == (alone.operations, alone.bytes, alone.effects)


def test_a_mode_whose_programs_cannot_be_taken_apart_shares_only_what_is_decoded(synthetic):
    assert prepared(synthetic, SECOND, FleetSettings("iptables")).shared == {}
    assert prepared(synthetic, SECOND, FleetSettings("nftables", version=(1, 35))).shared == {}
