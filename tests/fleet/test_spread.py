"""Views on real worker processes: the same figures, also when one of them is killed halfway."""

from __future__ import annotations

import os
import signal

import pytest

from harness.fleet import spread
from harness.fleet.scenario import RECORDED, Scenario, scenarios
from harness.fleet.spread import FleetWork
from harness.fleet.stage import NS, FleetSettings
from harness.log.errors import RecordingError
from harness.log.window import WHOLE

SECOND = Scenario(RECORDED, NS)


def asked(source: str = "recordings/demo.jsonl") -> FleetWork:
    varied = scenarios(SECOND, ["minSyncPeriod=10s"])
    return FleetWork(os.path.abspath(source), WHOLE, FleetSettings("nftables"), varied, list)


@pytest.mark.xdist_group("fleet")
def test_a_worker_that_is_killed_halfway_costs_no_node_and_none_counts_twice(tmp_path):
    alone = spread.in_this_process(asked(), lambda *_: None)
    killed = []

    def kill_one(step: str, number: int, _: int) -> None:
        if step == "views" and number and not killed:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            pids = list(client.run(os.getpid).values())
            assert len(workers) == len(pids) == 2
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("{}\n")
    with spread.local_client(2) as client:
        done = spread.spread(asked(), client, kill_one)
        assert killed
        with pytest.raises(RecordingError, match="wrong.jsonl: "):
            spread.spread(asked(str(wrong)), client, lambda *_: None)
    spread.complete(done)
    for one, other in zip(alone.shares, done.shares, strict=True):
        digests = {each.node: (each.digest, each.operations, each.bytes, each.changes) for each in one.nodes}
        assert digests == {each.node: (each.digest, each.operations, each.bytes, each.changes) for each in other.nodes}
        assert one.touched.nodes == other.touched.nodes
        assert len(other.nodes) == len(done.nodes) == 6


def test_a_scheduler_that_is_not_there_is_named():
    with pytest.raises(spread.FleetError, match="tcp://127.0.0.1:9: cannot be reached"):
        with spread.remote_client("tcp://127.0.0.1:9"):
            raise AssertionError("there is none")


def test_a_missing_view_is_an_error():
    done = spread.in_this_process(asked(), lambda *_: None)
    done.shares[0].nodes.pop()
    with pytest.raises(spread.FleetError, match="recorded: 1 view missing: node-0006"):
        spread.complete(done)
