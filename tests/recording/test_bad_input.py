"""Bad input: each kind gets an error that names the file, the line and what would be right, and exit code 2."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.events import FORMAT
from harness.recording import RecordingError, open_source

HEADER = {"format": FORMAT, "version": 1}
SERVICE = {
    "metadata": {"namespace": "a", "name": "s"},
    "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "protocol": "TCP"}]},
}
SLICE = {
    "metadata": {"namespace": "a", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.128.0.1"]}],
    "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
}


def event(seq: int, manifest: object = SERVICE, resource: str = "services", kind: str = "ADDED", t: int = 0) -> dict:
    return {"seq": seq, "t": t, "type": kind, "resource": resource, "object": manifest}


def lines(*values: dict, end: str = "\n") -> bytes:
    return ("\n".join(json.dumps(value) for value in values) + end).encode()


def without(manifest: dict, field: str) -> dict:
    return {**manifest, "metadata": {k: v for k, v in manifest["metadata"].items() if k != field}}


BAD = {
    "no header": (lines(event(1)), ":1: no header; the first line must be"),
    "another format": (lines({"format": "x", "version": 1}), ":1: format is 'x'"),
    "newer version": (lines({**HEADER, "version": 99}), ":1: version 99 was written by a newer harness"),
    "version no integer": (lines({**HEADER, "version": "1"}), ":1: version is '1'; an integer from 1"),
    "header of wrong types": (lines({**HEADER, "start": 5}), ":1: bad header"),
    "truncated line": (lines(HEADER, event(1)) + b'{"seq":2,"t":0,"ty', ":3: the last line is cut off"),
    "last line without its newline": (lines(HEADER, event(1), end=""), ":2: the last line is cut off"),
    "non-JSON line": (lines(HEADER, event(1)) + b"hello\n" + lines(event(2)), ":3: not an event"),
    "line without seq": (lines(HEADER, {"t": 0}), ":2: not an event"),
    "duplicate seq": (lines(HEADER, event(1), event(1)), ":3: seq 1 after 1; seq must rise"),
    "falling seq": (lines(HEADER, event(7), event(3)), ":3: seq 3 after 7; seq must rise"),
    "falling time": (lines(HEADER, event(1, t=9), event(2, t=8)), ":3: t 8 after 9"),
    "unknown resource": (lines(HEADER, event(1, resource="pets")), ":2: unknown resource 'pets'; one of services"),
    "unknown type": (lines(HEADER, event(1, kind="BORN")), ":2: unknown type 'BORN'; one of ADDED"),
    "event without an object": (lines(HEADER, {**event(1), "object": None}), ":2: ADDED without an object"),
    "object without a name": (lines(HEADER, event(1), event(5, without(SERVICE, "name"))), ":3: ADDED services"),
    "endpoint with a bad address": (
        lines(HEADER, event(4), event(6, {**SLICE, "endpoints": [{"addresses": ["10.1.2"]}]}, "endpointslices")),
        ":3: ADDED endpointslices",
    ),
    "empty file": (b"", ":1: the file is empty"),
    "blank file": (b"\n", ":1: the file is empty"),
    "binary file": (bytes(range(256)) * 9, ":1: not a recording: starts with"),
    "zstd cut off": (b"\x28\xb5\x2f\xfd\x04", "not a whole zstd file"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), ":1: not a recording: starts with"),
    "kubectl dump cut off": (b'{"kind": "List",\n "items": [\n {"kind": "Service"', ":3: not JSON"),
    "kubectl object of another kind": (
        b'{"kind": "List", "items": [{"kind": "Secret"}]}',
        "kind 'Secret'; only Service",
    ),
    "JSON that is no manifest": (b'{"hello": 1}\n', "neither a List, nor a watch event"),
    "bare array": (b"[]\n", ":1: not a recording"),
}
UNSEEN_BY_INSPECT = {"endpoint with a bad address"}
"""inspect counts, and needs no address for that."""


@pytest.mark.parametrize("command", ["replay", "inspect", "validate"])
@pytest.mark.parametrize("kind", BAD)
def test_the_error_names_file_line_and_what_would_be_right(tmp_path, kind, command):
    if command == "inspect" and kind in UNSEEN_BY_INSPECT:
        return
    content, message = BAD[kind]
    path = tmp_path / "input.jsonl"
    path.write_bytes(content)
    only_replay = ["--kernel", "memory", "--json", str(tmp_path / "out.json")] if command == "replay" else []
    done = CliRunner().invoke(main, [command, str(path), *only_replay])
    assert done.exit_code == 2, done.output
    assert str(path) in done.stderr and message in done.stderr
    assert done.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["input.jsonl"], "nothing half-done is left"


NO_FILES = [("{}", "is a directory"), ("{}/none.jsonl", "cannot be read: No such file")]


@pytest.mark.parametrize("command", ["replay", "inspect", "validate"])
@pytest.mark.parametrize(("path", "message"), NO_FILES)
def test_what_is_no_file(tmp_path, command, path, message):
    done = CliRunner().invoke(main, [command, path.format(tmp_path)])
    assert done.exit_code == 2
    assert message in done.stderr


def test_the_line_is_right_after_gaps_in_seq(tmp_path):
    path = tmp_path / "gaps.jsonl"
    seqs = [1, 2, 9, 10, 11, 50, 99]
    path.write_bytes(lines(HEADER, *(event(seq) for seq in seqs)))
    with open_source(path) as recording:
        assert [recording.line_of(each) for each in list(recording)] == [2, 3, 4, 5, 6, 7, 8]


def test_kubectl_names_the_event_instead(tmp_path):
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"kind": "List", "items": [{"kind": "Service", "metadata": {"namespace": "a"}}]}))
    done = CliRunner().invoke(main, ["validate", str(path)])
    assert done.exit_code == 2
    assert "dump.json:seq 1: ADDED services" in done.stderr


def test_validate_lists_many_problems_and_stops_at_twenty(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(lines(HEADER, *(event(seq, without(SERVICE, "name")) for seq in range(1, 31))))
    done = CliRunner().invoke(main, ["validate", str(path)])
    assert len(done.stderr.splitlines()) == 21
    assert done.stderr.splitlines()[-1] == "and 10 more problems"


def test_an_error_is_a_value_error_with_its_parts(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(lines(HEADER, event(2), event(1)))
    with pytest.raises(RecordingError) as caught, open_source(path) as recording:
        list(recording)
    assert (caught.value.path, caught.value.line) == (str(path), 3)


@pytest.mark.parametrize("kind", ["object without a name", "endpoint with a bad address", "duplicate seq"])
def test_trace_names_the_line_too(tmp_path, kind):
    content, message = BAD[kind]
    path = tmp_path / "input.jsonl"
    path.write_bytes(content)
    done = CliRunner().invoke(main, ["trace", str(path), "--from", "external:203.0.113.7", "--to", "10.96.0.1:80"])
    assert done.exit_code == 2, done.output
    assert f"{path}{message}" in done.stderr
