"""A node's view is what its own replay sends, and views add up to a fleet's figures."""

from __future__ import annotations

import pytest

from harness.fleet.scenario import RECORDED, Scenario, scenarios
from harness.fleet.share import share_of
from harness.fleet.stage import NS, Settings, staged
from harness.fleet.tape import read_tape
from harness.fleet.view import EFFECTS, NO_SYNC, view
from harness.fleet.work import prepared, share
from harness.replay.kernels import open_kernel
from harness.replay.session import Options, Session

DEMO, RULES = "recordings/demo.jsonl", "recordings/rules.jsonl"
SECOND = Scenario(RECORDED, NS)


def replayed(source: str, mode: str, node: str, period: int = NS):
    with open_kernel("memory", mode) as target:
        options = Options(mode=mode, min_sync_period=period, node=node, verify="none")
        return Session(source, options, target, lambda *_: None).run()


@pytest.mark.parametrize("mode", ["nftables", "iptables", "ipvs", "userspace"])
@pytest.mark.parametrize("source", [DEMO, RULES])
def test_every_node_sees_what_its_own_replay_sends(source, mode):
    tape = read_tape(source)
    found = share(prepared(tape, SECOND, Settings(mode)), list(tape.nodes))
    assert [each.node for each in found.nodes] == list(tape.nodes)
    nodes = found.nodes if mode == "nftables" else found.nodes[::3]
    for each in nodes:
        alone = replayed(source, mode, each.node)
        assert each.digest == alone.digest
        assert (each.operations + each.initial_operations, each.bytes + each.initial_bytes, each.syncs + 1) == (
            alone.operations, alone.bytes, alone.syncs,
        )  # fmt: skip
        assert each.changes == alone.convergence.count
    assert len({each.digest for each in found.nodes}) == len(tape.nodes), "nodes do differ"


def test_convergence_is_that_of_the_replay_up_to_the_cost_of_a_sync():
    tape = read_tape(DEMO)
    for scenario in scenarios(SECOND, ["minSyncPeriod=5s"]):
        stage = prepared(tape, scenario, Settings("nftables"))
        [node] = share(stage, ["node-0002"]).nodes
        whole = replayed(DEMO, "nftables", "node-0002", scenario.min_sync_period).convergence.summary()
        slowest = stage.cost.seconds(1000)
        assert node.p50 == pytest.approx(whole["p50"], abs=slowest + 0.2)
        assert node.p99 > 0.9 * scenario.min_sync_period / NS


def test_a_node_counts_once():
    stage = staged(read_tape(DEMO), SECOND, Settings("nftables"))
    total = share(stage, ["node-0001"])
    total.add(share(stage, ["node-0002"]))
    assert len(total.nodes) == 2 and max(each.nodes for each in total.touched.values()) == 2
    with pytest.raises(ValueError, match="counted twice: node-0002"):
        total.add(share(stage, ["node-0002"]))


def test_the_last_node_is_the_one_with_the_most_to_do():
    tape = read_tape(DEMO)
    stage = prepared(tape, SECOND, Settings("nftables"))
    views = {node: view(stage, node) for node in tape.nodes}
    found = share_of(stage, views.values())
    for n, batch in enumerate(stage.batches, 1):
        for number in range(batch.first, batch.first + len(batch.changes)):
            touching = {node: each for node, each in views.items() if EFFECTS[each.effects[number]] == "sent"}
            assert (found.touched[number].nodes if number in found.touched else 0) == len(touching)
            if touching:
                most = max(each.operations[n] for each in touching.values())
                assert views[found.touched[number].last_node].operations[n] == most != NO_SYNC


def test_a_node_that_joins_later_is_named_and_one_that_leaves_is_viewed():
    tape = read_tape("recordings/demo.jsonl")
    assert tape.leaving and not tape.late
    left = next(iter(tape.leaving))
    stage = staged(tape, SECOND, Settings("nftables"))
    assert share(stage, [left]).nodes[0].digest == replayed(DEMO, "nftables", left).digest
