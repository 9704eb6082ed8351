"""The sweep of minSyncPeriod, and its knee."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.fleet.knee import knee
from harness.fleet.stage import NS, FleetSettings
from harness.fleet.tape import read_tape
from harness.fleet.tune import swept
from harness.log.window import Window


def test_the_knee_is_the_point_furthest_below_the_line():
    hyperbola = [(x, 1 / x) for x in (1, 2, 3, 5, 10)]
    assert knee(hyperbola) == 2
    assert knee([(x * 1000, y / 7) for x, y in hyperbola]) == 2, "whatever the units"


@pytest.mark.parametrize(
    "points",
    [
        [(0, 3), (1, 1)],
        [(0, 2), (1, 1), (2, 0)],
        [(0, 1), (1, 1), (2, 1)],
        [(1, 3), (1, 2), (1, 1)],
        [(0, 3), (1, 3), (2, 1)],
    ],
    ids=["too few", "a line", "nothing saved", "nothing given up", "above the line"],
)
def test_a_curve_without_a_knee(points):
    assert knee(points) is None


def test_longer_periods_have_fewer_syncs_and_later_changes():
    tape = read_tape("recordings/demo.jsonl")
    points = swept(tape, FleetSettings("iptables"), "node-0002", "memory", [5 * NS, 0, NS, NS], lambda _: None)
    assert [each.min_sync_period_seconds for each in points] == [0, 1, 5]
    syncs, later = [each.syncs for each in points], [each.p99_seconds for each in points]
    assert syncs == sorted(syncs, reverse=True) and later == sorted(later)
    assert len(set(syncs)) == 3 and all(each.cpu_seconds > 0 for each in points)
    assert points[2].operations < points[0].operations, "changes cancelled each other out"
    assert sum(each.knee for each in points) <= 1


def test_a_recording_without_changes_has_nothing_to_tune():
    tape = read_tape("recordings/demo.jsonl", Window(until=("seq", 100)))
    with pytest.raises(ValueError, match="nothing to tune"):
        swept(tape, FleetSettings("nftables"), "node-0001", "memory", [NS], lambda _: None)


def test_a_node_that_is_not_there_is_named_with_one_that_is():
    done = CliRunner().invoke(main, ["tune", "recordings/demo.jsonl", "--node", "node-9"])
    assert done.exit_code == 2 and "no Node 'node-9' in the initial list, such as node-0001" in done.output
