"""Older versions of the format: read as today's by files and topics, never continued in place.

There is one version yet, so what stands for an older one is made up here: version 0 called `t` `ms`, counted
milliseconds, and named the cluster by a text.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from harness.log import RecordingError, open_source, versions
from harness.log.copying import copy
from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.journal import LogFile
from harness.log.lines import LineDecoder, read_header

HEADER = {"format": FORMAT, "version": 0, "resources": ["nodes"], "cluster": "prod"}
NODE = {"metadata": {"name": "a"}}
LINES = [
    {"seq": 1, "ms": 0, "type": "ADDED", "resource": "nodes", "object": NODE},
    {"seq": 2, "ms": 3, "type": "DELETED", "resource": "nodes", "object": NODE},
]


def _event(event: dict) -> dict:
    return {name: value for name, value in event.items() if name != "ms"} | {"t": event["ms"] * 1_000_000}


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A file of version 0, while there is a step from that."""
    monkeypatch.setitem(
        versions.STEPS, 0, versions.VersionStep(lambda h: h | {"cluster": {"name": h["cluster"]}}, _event)
    )
    path = tmp_path / "old.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [HEADER, *LINES]))
    return path


def test_every_version_has_its_step():
    assert sorted(versions.STEPS) == list(range(1, VERSION))


def test_the_manual_has_a_row_for_every_version():
    page = (Path(__file__).parents[2] / "docs" / "recording-format.md").read_text()
    rows = re.findall(r"^\| (\d+) \|", page.partition("## Versions")[2], re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, VERSION + 1))


def test_an_older_file_is_read_as_the_current_version(older):
    raw = msgspec.Raw(msgspec.json.encode(NODE))
    with open_source(older) as recording:
        assert recording.version == 0
        assert recording.header == Header(FORMAT, VERSION, ("nodes",), None, {"name": "prod"})
        assert list(recording) == [Event(1, 0, "ADDED", "nodes", raw), Event(2, 3_000_000, "DELETED", "nodes", raw)]


def test_errors_in_an_older_file_are_reported_with_their_line(older):
    text = older.read_text()
    for line, why in (
        ('{"seq":1,"ms":9,"type":"ADDED","resource":"nodes","object":{}}', "seq 1 after 2"),
        ('{"seq":3,"t":9,"type":"ADDED","resource":"nodes","object":{}}', "not an event: not as version 0 writes it"),
        ("[]", "not an event: not as version 0"),
        ("x", "not an event: JSON is malformed"),
    ):
        older.write_text(f"{text}{line}\n")
        with open_source(older) as recording, pytest.raises(RecordingError, match=f"old.jsonl:4: {why}"):
            list(recording)


def test_a_topic_of_an_older_version_takes_the_same_steps(older):
    """What a topic is read by; repeats are passed over as in today's."""
    header, version = read_header("kafka://k/t", HEADER)
    decoder = LineDecoder("kafka://k/t", version, skip_repeats=True, unit="offset ")
    lines = [json.dumps(line).encode() + b"\n" for line in [LINES[0], LINES[0], LINES[1]]]
    found = [decoder.event(line, place) for place, line in enumerate(lines, 1)]
    assert header.version == VERSION and [event and event.t for event in found] == [0, None, 3_000_000]


def test_an_older_recording_is_copied_to_today_and_not_continued(older, tmp_path):
    before = older.read_bytes()
    with pytest.raises(RecordingError, match=f"version 0 cannot be continued; `harness copy` writes it as .*{VERSION}"):
        LogFile(older)
    assert older.read_bytes() == before
    today = tmp_path / "today.jsonl"
    copy(str(older), str(today), None, lambda count: None)
    with open_source(today) as recording:
        assert recording.version == VERSION and [event.t for event in recording] == [0, 3_000_000]
    LogFile(today).close()
