"""The table of a watcher's next step is complete and never floods the server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.record.recovery import MOST_SECONDS, TABLE, Recovery, WatchOutcome


def test_the_table_is_complete():
    assert set(TABLE) == set(WatchOutcome)


@given(st.lists(st.tuples(st.sampled_from(sorted(WatchOutcome, key=str)), st.booleans()), max_size=40), st.floats(0, 1))
def test_a_gap_is_kept_until_a_list_succeeds(outcomes, chance):
    recovery, open_gap = Recovery(lambda: chance), False
    for outcome, progress in outcomes:
        step = recovery.after(outcome, "why", progress)
        open_gap = outcome is not WatchOutcome.LISTED and (open_gap or TABLE[outcome].relist)
        assert (step.gap is not None) == open_gap
        assert 0 <= step.wait_seconds <= MOST_SECONDS


def test_a_server_that_expires_every_watch_is_not_flooded():
    recovery, waits = Recovery(lambda: 0.0), []
    for _ in range(12):
        waits.append(recovery.after(WatchOutcome.EXPIRED, "410").wait_seconds)
        recovery.after(WatchOutcome.LISTED)
    assert waits[0] == 0 and all(one < other for one, other in zip(waits[1:8], waits[2:9], strict=True))
    assert waits[-1] == MOST_SECONDS / 2


def test_a_watch_that_delivered_events_is_resumed_soon():
    recovery = Recovery(lambda: 1.0)
    for _ in range(10):
        recovery.after(WatchOutcome.AWAY, "down")
    assert recovery.after(WatchOutcome.BROKEN, "reset", progress=True).wait_seconds < 1
    assert recovery.after(WatchOutcome.ENDED, "", progress=True).wait_seconds == 0


def test_waits_are_jittered():
    assert (
        Recovery(lambda: 0.0).after(WatchOutcome.AWAY).wait_seconds
        < Recovery(lambda: 1.0).after(WatchOutcome.AWAY).wait_seconds
    )
