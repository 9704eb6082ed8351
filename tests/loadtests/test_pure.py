"""Arrivals, shapes, flows and the tally, without a socket."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.run_facts import LoadFile
from chaos.verdict.facts import Load, read_load
from harness.lab.answers import PortStatus, ServiceStatus
from loadtests import shapes
from loadtests.arrivals import Stream, users_for
from loadtests.flows import FLOWS, flow_of
from loadtests.spec import Spec, SpecError, read_spec
from loadtests.tally import SECOND_NS, Tally


def _service(name: str, address: str, balancer: str | None, ports: dict[str, tuple[int, int]]) -> ServiceStatus:
    return ServiceStatus(name, address, balancer, {key: PortStatus(*numbers) for key, numbers in ports.items()})


SERVICES = [
    _service("web", "10.0.0.1", "198.51.100.1", {"http": (80, 30080), "tcp": (81, 30081), "udp": (82, 30082)}),
    _service("web-sticky", "10.0.0.2", None, {"http": (80, 30090)}),
    _service("web-local", "10.0.0.3", None, {"http": (80, 30100)}),
]
SPEC = Spec("t", (), {"node-2": "10.1.0.2", "node-1": "10.1.0.1"}, SERVICES)


@given(rate=st.floats(0.5, 500), seed=st.integers(0, 99), start=st.integers(0, 1 << 60))
def test_a_stream_is_even_and_never_drifts(rate, seed, start):
    made, times = Stream(rate, Random(seed), start), []
    for _ in range(500):
        times.append(made.next_ns)
        made.advance(rate)
    assert start <= times[0] <= start + 1e9 / rate + 1 + start * 1e-15
    for number, time in enumerate(times):
        assert abs(time - times[0] - number * 1e9 / rate) <= 2 + times[0] * 1e-15 * (number + 1)


@given(rate=st.floats(0.1, 2000), each=st.floats(0.5, 50))
def test_any_rate_is_split_into_whole_users(rate, each):
    users, rate_of_each = users_for(rate, each)
    assert abs(users * rate_of_each - rate) < 1e-6 * rate
    assert rate_of_each <= each * (1 + 1e-9)


def test_a_stream_whose_rate_changes_goes_on_from_where_it_is():
    made = Stream(10, Random(1), 0)
    first = made.next_ns
    made.advance(10)
    made.advance(20)
    assert abs(made.next_ns - first - 150_000_000) <= 2


def test_every_flow_has_its_destinations():
    for name in FLOWS:
        flow = flow_of(name, SPEC)
        assert flow.destinations
        if "nodeport" in name:
            assert [(d.node, d.address) for d in flow.destinations] == [("node-1", "10.1.0.1"), ("node-2", "10.1.0.2")]
    assert str(flow_of("clusterip-udp", SPEC).destinations[0]) == "10.0.0.1:82"
    assert str(flow_of("balancer-http", SPEC).destinations[0]) == "198.51.100.1:80"


def test_an_invalid_flow_or_spec_is_rejected_with_a_reason(tmp_path):
    with pytest.raises(SpecError, match="unknown flow 'smoke'; there are: nodeport-http"):
        flow_of("smoke", SPEC)
    with pytest.raises(SpecError, match="no Service web with a port http"):
        flow_of("nodeport-http", Spec("t", (), {}, []))
    (tmp_path / "spec.json").write_text('{"name": 1}')
    with pytest.raises(SpecError, match="spec.json"):
        read_spec(tmp_path / "spec.json")


def test_shapes():
    steps = {"kind": "steps", "seconds": 10, "factors": [0.5, 1, 2]}
    assert [shapes.factor_at(steps, t) for t in (0, 9.9, 10, 25, 1000)] == [0.5, 0.5, 1, 2, 2]
    spikes = {"kind": "spikes", "every_seconds": 20, "seconds": 2, "factor": 3}
    assert [shapes.factor_at(spikes, t) for t in (0, 17.9, 18, 19.9, 20, 38)] == [1, 1, 3, 3, 1, 3]
    for shape in ({}, steps, spikes):
        shapes.check(shape)
    for bad in ({"kind": "wave"}, {"kind": "steps"}, {"factor": 2}):
        with pytest.raises(SpecError):
            shapes.check(bad)


requests = st.tuples(
    st.sampled_from(["a", "b"]), st.integers(0, 5 * SECOND_NS), st.integers(0, SECOND_NS), st.booleans()
)


@given(st.lists(requests, max_size=60), st.lists(st.integers(0, 7 * SECOND_NS), max_size=5))
def test_every_request_is_in_one_row_and_in_its_flow_s_summary(requests, times):
    tally = Tally(("a", "b"))
    for flow, at, took, well in requests:
        if well:
            tally.answered(flow, at, at, at + took, "web-1 node-1")
        else:
            tally.failed(flow, at, at, "refused")
    rows = [row for time in sorted(times) for row in tally.rows(time)] + list(tally.rows(10 * SECOND_NS))
    assert len({(row["at_ns"], row["flow"]) for row in rows}) == len(rows)
    for summary in tally.summaries():
        mine = [row for row in rows if row["flow"] == summary["flow"]]
        for field in ("sent", "answered", "failed"):
            assert sum(row[field] for row in mine) == summary[field]
        latencies = sorted(max(1, took // 1000) for flow, _, took, well in requests if well and flow == summary["flow"])
        assert summary["answered"] == len(latencies)
        if latencies:
            assert abs(summary["max_us"] - latencies[-1]) <= latencies[-1] / 500 + 1
            assert max(row["max_us"] for row in mine if row["max_us"] is not None) == latencies[-1]


def test_the_held_rate_counts_requests_answered_in_time(tmp_path):
    tally = Tally(("a", "b"))
    for flow, latency_us in (("a", 500), ("a", 999_000), ("a", 1_200_000), ("b", 10)):
        tally.answered(flow, 0, 0, latency_us * 1000, "web-1 node-1")
    tally.failed("b", 0, 0, "timeout")
    tally.not_sent("b")
    path = tmp_path / "load.jsonl"
    rows = [*tally.rows(SECOND_NS), *tally.summaries(), {"kind": "end", "ended_monotonic_ns": 0, "cpu_seconds": 0.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    load = Load(seconds=[], failures=[], flows=[], headers=[], incomplete=[])
    read_load(path, LoadFile("t", str(path), 0), 0, load)
    assert load.held(1_000_000) == 3 / 6
    assert Load().held(1_000_000) is None
