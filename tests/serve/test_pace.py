"""The recording's pace, and the control endpoint: order, steps, seeking, both ways."""

from __future__ import annotations

import json
import threading
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.log import open_source
from harness.log.events import OBJECT_TYPES
from harness.log.positions import duration, position, speed
from harness.log.state import state_at
from tests.serve.conftest import DEMO, ask

PATHS = {
    "services": "/api/v1/services",
    "nodes": "/api/v1/nodes",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
}


@pytest.fixture(scope="module")
def events():
    """All events of the demo recording."""
    with open_source(DEMO) as recording:
        return list(recording)


def served_state(url: str) -> dict:
    """Everything the server lists, without resourceVersions, by resource, namespace and name."""
    found = {}
    for resource, path in PATHS.items():
        for item in ask(url + path).body["items"]:
            item["metadata"].pop("resourceVersion")
            found[resource, item["metadata"].get("namespace", ""), item["metadata"]["name"]] = item
    return found


def recorded_state(seq: int) -> dict:
    """The same out of the recording's own fold."""
    with open_source(DEMO) as recording:
        objects = {key: json.loads(bytes(raw)) for key, raw in state_at(recording, ("seq", seq)).objects.items()}
    for manifest in objects.values():
        manifest["metadata"].pop("resourceVersion")
    return objects


def test_at_full_speed_the_order_is_the_recordings(serve, events):
    served = serve(DEMO, "--start-paused", "--speed", "max")
    wanted = [e for e in events if e.t > 0 and e.type in OBJECT_TYPES and e.resource == "endpointslices"]
    listed = ask(served.url + PATHS["endpointslices"]).body["metadata"]["resourceVersion"]
    reply = urllib.request.urlopen(
        f"{served.url}{PATHS['endpointslices']}?watch=1&resourceVersion={listed}", timeout=60
    )
    served.control("resume")
    got = [json.loads(reply.readline()) for _ in wanted]
    assert [(e["type"], e["object"]) for e in got] == [(e.type, json.loads(bytes(e.object))) for e in wanted]
    assert ask(served.url + "/control/status").body["state"] == "ended"


def test_steps_and_seeking_show_the_recordings_own_state(serve, events):
    served = serve(DEMO, "--start-paused", "--speed", "max")
    first = next(e.seq for e in events if e.t > 0)
    assert served.control("step")["seq"] == first
    assert served_state(served.url) == recorded_state(first)
    for seq in (first + 60, first + 20, events[-1].seq, first + 100):
        status = served.control("seek", to=seq)
        assert status["seq"] == seq
        assert served_state(served.url) == recorded_state(seq)
    at = events[-30].t
    assert served.control("seek", to=f"{at}ns")["t_seconds"] == at / 1e9
    assert served_state(served.url) == recorded_state(max(e.seq for e in events if e.t <= at))


def test_seeking_back_ends_watches(serve, events):
    served = serve(DEMO, "--start-paused", "--speed", "max")
    served.control("seek", to=events[-1].seq)
    listed = ask(served.url + PATHS["services"]).body["metadata"]["resourceVersion"]
    url = f"{served.url}{PATHS['services']}?watch=1&resourceVersion={listed}"
    reply = urllib.request.urlopen(url, timeout=60)
    served.control("seek", to=events[120].seq)
    assert json.loads(reply.readline())["object"]["code"] == 410 and reply.readline() == b""
    again = ask(served.url + PATHS["services"]).body["metadata"]["resourceVersion"]
    assert int(again) > int(listed), "resourceVersions never go back"


def test_from_and_until(serve, events):
    start, until = events[150].seq, events[200].seq
    served = serve(DEMO, "--speed", "max", "--from", start, "--until", until, "--start-paused")
    assert served_state(served.url) == recorded_state(events[149].seq)
    served.control("resume")
    last = {}
    ended = threading.Event()
    for _ in range(200):
        last = ask(served.url + "/control/status").body
        if last["state"] == "ended" or ended.wait(0.02):
            break
    assert last["seq"] == until and last["events_applied"] == 51
    assert served_state(served.url) == recorded_state(until)


def test_its_clock_is_the_recordings(serve, events):
    """Ten thousand times as fast, and still in order; paused, it stands."""
    served = serve(DEMO, "--speed", "0.000001")
    before = ask(served.url + "/control/status").body
    assert before["state"] == "playing" and before["events_applied"] == 0
    assert served.control("speed", factor=1_000_000)["speed"] == 1_000_000
    status = {}
    for _ in range(200):
        status = ask(served.url + "/control/status").body
        if status["state"] == "ended":
            break
    assert status["seq"] == events[-1].seq
    assert served_state(served.url) == recorded_state(events[-1].seq)


@pytest.mark.parametrize(
    "action, said",
    [("jump", "no action"), ("step?count=0", "count is '0'"), ("seek?to=x", "'x'"), ("speed?factor=-1", "'-1'")],
)
def test_invalid_control_requests_are_rejected(serve, action, said):
    served = serve(DEMO, "--start-paused")
    answer = ask(f"{served.url}/control/{action}", "POST")
    assert answer.code in (400, 404) and said in answer.body["message"]
    assert ask(f"{served.url}/control/status").body["state"] == "paused"


@given(st.integers(0, 10**15), st.sampled_from(["ns", "us", "ms", "s", "m", "h"]))
def test_positions_survive_a_round_trip(value, unit):
    assert position(str(value)) == ("seq", value)
    assert position(f"{value}{unit}") == ("t", duration(f"{value}{unit}"))
    assert duration(f"{value}ns") == value


def test_speeds():
    assert speed("max") is None and speed("2.5") == 2.5
    for odd in ("0", "-1", "inf", "nan", "fast", ""):
        with pytest.raises(ValueError):
            speed(odd)
