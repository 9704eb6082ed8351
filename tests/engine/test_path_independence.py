"""The kernel's state depends on the cluster's state, not on the path that led there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.dataplane import Dataplane
from harness.judge.readback.nftables_judge import VERDICTS

from .worlds import RETELLINGS, places, run, story


@given(seed=st.integers(0, 50), rewritten=st.sampled_from(RETELLINGS), where=places, syncs=places)
def test_different_histories_of_a_state_have_the_same_behaviour(seed, rewritten, where, syncs):
    events = story(seed)
    _, reference = run(events)
    _, other = run(rewritten(events, where), syncs)
    for family in (4, 6):
        assert other.view.behaviour(family) == reference.view.behaviour(family)


@given(seed=st.integers(0, 50), syncs=places)
def test_incremental_plans_equal_plans_from_scratch(seed, syncs):
    proxier, _ = run(story(seed), syncs)
    for family, dataplane in proxier.dataplanes.items():
        scratch = Dataplane(family, proxier.config)
        scratch.update(proxier.state, sorted(proxier.state.services))
        assert scratch.plans == dataplane.plans


@given(seed=st.integers(0, 50), syncs=places)
def test_deleting_everything_leaves_no_element(seed, syncs):
    events = story(seed, churn=10)
    gone = [("DELETED", resource, manifest) for _, resource, manifest in events if resource != "nodes"]
    _, opened = run(events + gone, syncs | {len(events) - 1})
    for sets in opened.kernel.tables.values():
        left = {name: elements for name, elements in sets.items() if elements}
        assert set(left) <= {"equal-bytes", "nodeport-ips", *VERDICTS}


@given(seed=st.integers(0, 50))
def test_repeated_events_request_no_sync(seed):
    events = story(seed)
    proxier, _ = run(events)
    for event in events:
        if event[0] != "DELETED" and event in events[-1:]:
            assert proxier.state.observe(*event) is False
    assert proxier.sync().operations == 0


@given(seed=st.integers(0, 50), syncs=places)
def test_a_full_sync_gives_the_same_state(seed, syncs):
    """SYNC-04: after a refusal, or when the kernel has lost its rules."""
    proxier, opened = run(story(seed), syncs)
    before = [opened.view.behaviour(family) for family in (4, 6)]
    proxier.resync()
    assert proxier.sync().full
    assert [opened.view.behaviour(family) for family in (4, 6)] == before
    assert not proxier.sync().full
