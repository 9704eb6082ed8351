"""Properties of the pacer: for any requests and runs, periods are kept and no request is lost."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from engine.pacing import Pacer

MIN, RETRY, FULL = 1.0, 30.0, 3600.0

steps = st.lists(
    st.tuples(st.sampled_from(["request", "doubt", "run", "fail"]), st.floats(0, 40), st.floats(0, 5)), max_size=60
)


@given(steps)
def test_periods_are_kept_and_no_request_is_lost(script):
    """`run` and `fail` wait until a run is due, if one ever is, and let it take a while."""
    pacer, now = Pacer(MIN, RETRY, FULL), 0.0
    assert pacer.due() == inf
    pacer.open(now)
    assert pacer.due() <= now, "the first run comes at once"
    ended, ok, wanted, doubtful, last_full, failures = -inf, True, True, True, -inf, 0
    for action, wait, takes in script:
        now += wait
        if action in ("request", "doubt"):
            pacer.request(now, full=action == "doubt")
            wanted, doubtful = True, doubtful or action == "doubt"
            waits = MIN if ok else min(RETRY, 2.0 ** (failures - 1))
            assert pacer.due() <= max(now, ended + waits), "a request is served as soon as the period allows"
            continue
        due = pacer.due()
        assert due >= ended + MIN
        if not ok:
            assert due == ended + min(RETRY, 2.0 ** (failures - 1)), "a failure is tried again, later each time"
        if ok and not wanted:
            assert due == last_full + FULL, "an idle proxy runs once an hour"
        now = max(now, due)
        full = pacer.started(now)
        assert full == (doubtful or now >= last_full + FULL)
        assert pacer.due() == inf, "never two at once"
        now += takes
        pacer.ended(now, ok=action == "run", full=full)
        ended, ok, wanted, doubtful = now, action == "run", False, action != "run"
        failures = 0 if ok else failures + 1
        if ok and full:
            last_full = now
        assert (pacer.requested_at is None) == ok, "what a failed run took along still waits"


@given(st.lists(st.floats(0, 0.9), min_size=1, max_size=50))
def test_a_burst_costs_two_runs(offsets):
    """All requests within one period after a run are one run (INV-08)."""
    pacer = Pacer(MIN, RETRY)
    pacer.open(0.0)
    pacer.ended(0.0, ok=True, full=pacer.started(0.0))
    for at in sorted(offsets):
        pacer.request(at)
    assert pacer.due() == MIN
    pacer.ended(MIN, ok=True, full=pacer.started(MIN))
    assert pacer.due() == FULL


def test_a_request_during_a_run_asks_for_another():
    """It may have come too late for what the run computed."""
    pacer = Pacer(MIN, RETRY)
    pacer.open(0.0)
    full = pacer.started(0.0)
    pacer.request(0.5)
    assert pacer.due() == inf
    pacer.ended(0.7, ok=True, full=full)
    assert pacer.due() == 0.7 + MIN
    assert pacer.requested_at == 0.5


def test_with_no_minimum_a_request_is_due_at_once():
    """minSyncPeriod 0."""
    pacer = Pacer(0.0, RETRY)
    pacer.open(0.0)
    pacer.ended(2.0, ok=True, full=pacer.started(0.0))
    pacer.request(2.0)
    assert pacer.due() == 2.0
