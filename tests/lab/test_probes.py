"""readinessProbes: when results make a pod ready, against the rule spelled out over the whole history."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.lab.control_plane.probes import Exec, HttpGet, Probe, ProbeError, Readiness, TcpSocket, parse_probe

thresholds = st.integers(1, 4)


def spelled_out(results: list[bool], success: int, failure: int) -> bool:
    """Ready: of the runs that were long enough to count, the last one was of successes."""
    ready = False
    for end in range(1, len(results) + 1):
        last = results[end - 1]
        needed = success if last else failure
        if end >= needed and all(result is last for result in results[end - needed : end]):
            ready = last
    return ready


@given(results=st.lists(st.booleans(), max_size=40), success=thresholds, failure=thresholds)
def test_readiness_follows_the_thresholds(results, success, failure):
    readiness = Readiness(Probe(TcpSocket(80), success_threshold=success, failure_threshold=failure))
    changes = 0
    for number, result in enumerate(results, 1):
        before = readiness.ready
        changed = readiness.observe(result)
        changes += changed
        assert changed is (readiness.ready is not before)
        assert readiness.ready is spelled_out(results[:number], success, failure)
    assert changes <= len(results) // min(success, failure) + 1


def test_a_container_is_ready_at_once_only_without_a_probe():
    assert Readiness(None).ready
    assert not Readiness(Probe(TcpSocket(80))).ready


def test_a_new_container_starts_from_scratch():
    readiness = Readiness(Probe(TcpSocket(80), success_threshold=2))
    readiness.observe(True)
    readiness.restarted()
    readiness.observe(True)
    assert not readiness.ready


def test_defaults_are_the_api_s():
    assert parse_probe({"httpGet": {"port": 8080}}) == Probe(HttpGet(8080, "/"), 0, 10, 1, 1, 3)
    assert parse_probe({"exec": {"command": ["true"]}, "periodSeconds": 2}) == Probe(Exec(("true",)), period_seconds=2)
    assert parse_probe(None) is None


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({}, None),
        ({"periodSeconds": 1}, "exactly one of httpGet, tcpSocket and exec"),
        ({"tcpSocket": {"port": 1}, "exec": {"command": ["true"]}}, "exactly one"),
        ({"tcpSocket": {"port": 0}}, "readinessProbe.tcpSocket.port: 0"),
        ({"tcpSocket": {"port": 80}, "failureThreshold": 0}, "readinessProbe.failureThreshold: 0"),
        ({"tcpSocket": {"port": 80}, "periodSeconds": 0.5}, "readinessProbe.periodSeconds: 0.5"),
    ],
)
def test_invalid_probes_are_rejected_by_field(manifest, words):
    if words is None:
        assert parse_probe(manifest) is None
        return
    with pytest.raises(ProbeError, match=words):
        parse_probe(manifest)
