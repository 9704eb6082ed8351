"""Supported sources: recordings plain and compressed, standard input, and kubectl's output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from harness.log import open_source, write_recording
from harness.log.events import FORMAT, MARKER_TYPES, OBJECT_TYPES, RESOURCES, VERSION, Event, Header
from harness.log.state import State, state_at

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "resourceVersion": "71",
        "uid": "0b3c",
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        "annotations": None,
    },
    "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80, "targetPort": "http"}]},
    "status": {"loadBalancer": {}},
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-x7k2p", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.128.0.4"], "conditions": {"ready": True, "serving": True, "terminating": False}}],
    "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
}


def read(path) -> tuple[Header, list[Event]]:
    with open_source(path) as recording:
        return recording.header, list(recording)


manifests = st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5) | st.integers(0, 9), max_size=3)


@st.composite
def histories(draw) -> list[Event]:
    seq = t = 0
    events = []
    for _ in range(draw(st.integers(0, 12))):
        seq += draw(st.integers(1, 3))
        t += draw(st.integers(0, 10**10))
        kind = draw(st.sampled_from(OBJECT_TYPES + MARKER_TYPES))
        raw = msgspec.Raw(msgspec.json.encode(draw(manifests)))
        events.append(Event(seq, t, kind, draw(st.sampled_from(RESOURCES)), raw))
    return events


@given(events=histories(), suffix=st.sampled_from([".jsonl", ".jsonl.zst"]))
def test_a_written_recording_is_read_back(tmp_path_factory, events, suffix):
    path = tmp_path_factory.mktemp("round") / f"trip{suffix}"
    header = Header(FORMAT, VERSION, start="2026-01-01T00:00:00Z", cluster={"name": "c"})
    write_recording(path, header, events)
    again, found = read(path)
    assert again == header
    as_values = [(e.seq, e.t, e.type, e.resource, bytes(e.object)) for e in events]
    assert [(e.seq, e.t, e.type, e.resource, bytes(e.object)) for e in found] == as_values


def test_a_dump_is_an_initial_list(tmp_path):
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [SERVICE, SLICE]}, indent=4))
    _, events = read(path)
    assert [(e.type, e.resource, e.t) for e in events[:2]] == [("ADDED", "services", 0), ("ADDED", "endpointslices", 0)]
    assert {e.resource for e in events[2:] if e.ends_initial_list} == {"nodes", "services", "endpointslices"}


def test_a_watch_is_a_list_and_then_changes(tmp_path):
    drained = json.loads(json.dumps(SLICE))
    drained["endpoints"][0]["conditions"]["ready"] = False
    stream = [("ADDED", SERVICE), ("ADDED", SLICE), ("BOOKMARK", SERVICE), ("MODIFIED", drained), ("DELETED", SERVICE)]
    path = tmp_path / "watch.json"
    path.write_text("\n".join(json.dumps({"type": kind, "object": item}, indent=4) for kind, item in stream))
    _, events = read(path)
    assert [(e.type, e.t) for e in events if e.type in OBJECT_TYPES] == [
        ("ADDED", 0), ("ADDED", 0), ("MODIFIED", 10**9), ("DELETED", 2 * 10**9),
    ]  # fmt: skip


def test_compressed_content_is_known_without_its_suffix(tmp_path):
    path = tmp_path / "no-suffix"
    write_recording(tmp_path / "a.jsonl", Header(FORMAT, VERSION), [])
    path.write_bytes(zstandard.compress((tmp_path / "a.jsonl").read_bytes()))
    assert read(path)[0].version == VERSION


def test_standard_input_is_a_source():
    with open("recordings/demo.jsonl", "rb") as demo:
        command = [sys.executable, "-m", "harness", "validate", "-"]
        done = subprocess.run(command, stdin=demo, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("valid: 300 events")


def test_sha256_is_that_of_the_stored_bytes():
    import hashlib

    with open_source("recordings/demo.jsonl") as recording:
        list(recording)
        digest = recording.sha256
    with open("recordings/demo.jsonl", "rb") as file:
        assert digest == hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("seq", [1, 60, 150, 291])
def test_the_state_at_a_point_is_a_source_that_holds_the_same(tmp_path, seq):
    with open_source("recordings/demo.jsonl") as recording:
        listing = state_at(recording, ("seq", seq)).listing()
    path = tmp_path / "state.json"
    path.write_text(json.dumps(listing))
    state = State()
    for event in read(path)[1]:
        state.apply(event)
    assert state.listing() == listing


def test_a_failing_write_leaves_nothing(tmp_path):
    def events():
        yield Event(1, 0, "ADDED", "services", msgspec.Raw(b"{}"))
        raise OSError("disk full")

    for name in ("a.jsonl", "a.jsonl.zst"):
        with pytest.raises(OSError, match="disk full"):
            write_recording(tmp_path / name, Header(FORMAT, VERSION), events())
    assert list(tmp_path.iterdir()) == []


def test_killed_while_writing_leaves_no_file_of_that_name(tmp_path):
    out = tmp_path / "big.jsonl"
    child = subprocess.Popen([sys.executable, "-m", "harness", "synth", str(out), "--services", "20000"])
    try:
        while not (partial := tmp_path / "big.jsonl.partial").exists() or partial.stat().st_size < 1 << 20:
            assert child.poll() is None
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.wait()
    assert not out.exists()


def test_reading_stops_at_the_requested_point(tmp_path):
    """inspect --at must work on a recording that is damaged later on."""
    text = open("recordings/demo.jsonl", "rb").read().splitlines(keepends=True)
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(b"".join([*text[:60], b"oops\n"]))
    with open_source(path) as recording:
        assert state_at(recording, ("seq", 40)).objects
