"""Aggregation loses nothing that counts: no request, no change, and never the worst."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from chaos.report.series import MOST_BUCKETS, MOST_CAUSES, MOST_CHANGES, natural, timeline
from chaos.verdict.facts import read_facts
from tests.chaos_report import runs

causes = st.sampled_from([f"cause {n}" for n in range(9)])
failures = st.lists(st.tuples(st.floats(2, 19), causes), max_size=40)
changes = st.lists(
    st.tuples(
        st.sampled_from(["node-1", "node-2", "node-10"]),
        st.floats(2, 19),
        st.floats(0, 60),
        st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)


@given(failures, changes, st.sampled_from([20.0, 700.0, 3600.0]))
def test_the_series_contain_every_request_and_the_slowest_kernel(lost, followed, seconds):
    with tempfile.TemporaryDirectory() as folder:
        run = runs.write_run(
            Path(folder) / "run",
            [runs.fault(1, "pod-kill", 4.0)],
            [runs.failure(at, cause=cause) for at, cause in lost],
            [runs.followed(node, at, lag, wanted, seen=seen) for node, at, lag, wanted, seen in followed],
            seconds=seconds,
        )
        line = timeline(read_facts(run), {1: len(lost)})
    assert len(line.buckets) <= MOST_BUCKETS and len(line.causes) <= MOST_CAUSES
    assert sum(b.sent for b in line.buckets) == 100 * (int(seconds) - 2)
    assert sum(b.lost_in_all for b in line.buckets) == len(lost)
    assert sum(change.count for change in line.changes) == len(followed)
    assert len(line.changes) <= 4 * MOST_CHANGES
    for kind in {(node, seen) for node, *_, seen in followed}:
        known = [lag for node, _, lag, _, seen in followed if (node, seen) == kind]
        drawn = [change.lag for change in line.changes if (change.node, change.followed) == kind]
        assert abs(max(drawn) - max(known)) < 1e-6
    assert list(line.nodes) == sorted(line.nodes, key=natural)
