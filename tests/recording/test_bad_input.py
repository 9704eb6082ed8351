"""Bad input: each kind gets an error with the file, the line and a correction, and exit code 2."""

from __future__ import annotations

import codecs
import importlib
import json

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.log import RecordingError, open_source
from harness.log.events import FORMAT

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
    "truncated line": (lines(HEADER, event(1)) + b'{"seq":2,"t":0,"ty', ":3: the last line is incomplete"),
    "last line without its newline": (lines(HEADER, event(1), end=""), ":2: the last line is incomplete"),
    "non-JSON line": (lines(HEADER, event(1)) + b"hello\n" + lines(event(2)), ":3: not an event"),
    "line without seq": (lines(HEADER, {"t": 0}), ":2: not an event"),
    "duplicate seq": (lines(HEADER, event(1), event(1)), ":3: seq 1 after 1; seq must increase"),
    "falling seq": (lines(HEADER, event(7), event(3)), ":3: seq 3 after 7; seq must increase"),
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
    "zstd cut off": (b"\x28\xb5\x2f\xfd\x04", "not a complete zstd file"),
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
def test_the_error_names_file_line_and_correction(tmp_path, kind, command):
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
def test_a_path_that_is_no_file_is_an_error(tmp_path, command, path, message):
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


NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
DUMP = {"kind": "List", "items": [NODE, {"apiVersion": "v1", "kind": "Service", **SERVICE}]}
ENDED = {"kind": "Status", "code": 410, "message": "too old resource version: 5 (9)"}


def watched(*events: tuple[str, dict]) -> bytes:
    return lines(*({"type": kind, "object": manifest} for kind, manifest in events))


@pytest.mark.parametrize("content", [json.dumps(DUMP).encode(), lines(HEADER, event(1))], ids=["a dump", "a recording"])
def test_a_byte_order_mark_is_accepted(tmp_path, content):
    for name, mark in (("plain", b""), ("marked", codecs.BOM_UTF8)):
        (tmp_path / name).write_bytes(mark + content)
    with open_source(tmp_path / "plain") as plain, open_source(tmp_path / "marked") as marked:
        assert [bytes(e.object) for e in marked] == [bytes(e.object) for e in plain] != []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path, encoding):
    (tmp_path / "dump").write_text(json.dumps(DUMP, indent=1), encoding=encoding)
    with pytest.raises(RecordingError, match="dump:1: UTF-16 text, as PowerShell's > writes it: save it as UTF-8"):
        open_source(tmp_path / "dump")


@pytest.mark.parametrize("module", ["gzip", "bz2", "lzma"])
def test_other_compression_is_named(tmp_path, module):
    (tmp_path / "dump").write_bytes(importlib.import_module(module).compress(json.dumps(DUMP).encode()))
    with pytest.raises(RecordingError, match="dump:1: packed by (gzip|bzip2|xz): unpack it first"):
        open_source(tmp_path / "dump")


def test_importing_accepts_a_byte_order_mark_and_names_utf_16(tmp_path):
    for encoding, code, said in (("utf-8-sig", 0, "events"), ("utf-16", 2, "UTF-16 text")):
        (tmp_path / "dump").write_text(json.dumps(DUMP, indent=1), encoding=encoding)
        done = CliRunner().invoke(main, ["import", str(tmp_path / "dump"), str(tmp_path / "out.jsonl")])
        assert done.exit_code == code and said in done.output, done.output


def test_a_watch_is_read_up_to_its_error_which_is_reported(tmp_path, capsys):
    path = tmp_path / "watch"
    path.write_bytes(watched(("ADDED", NODE), ("MODIFIED", NODE), ("ERROR", ENDED), ("ADDED", NODE)))
    for _ in range(2):
        with open_source(path) as recording:
            assert [e.type for e in recording if e.type != "BOOKMARK"] == ["ADDED", "MODIFIED"]
    said = "read up to where the watch ended with ERROR 410 (too old resource version: 5 (9))"
    assert capsys.readouterr().err.splitlines()[0] == f"warning: {path}: {said}"


def test_a_repeated_object_means_a_watch_without_event_types(tmp_path):
    changed = NODE | {"spec": {"unschedulable": True}}
    for content in (lines(NODE, changed), lines({"kind": "List", "items": [NODE]}, changed)):
        (tmp_path / "plain").write_bytes(content)
        with pytest.raises(RecordingError, match="Node n occurs twice.* add --output-watch-events"):
            with open_source(tmp_path / "plain") as recording:
                list(recording)
    (tmp_path / "plain").write_bytes(lines(NODE, NODE))
    with open_source(tmp_path / "plain") as recording:
        assert len(list(recording)) == 5


def test_all_problems_are_listed_as_data(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"x": 1}\n')
    done = CliRunner().invoke(main, ["validate", str(path), "-o", "json"])
    result = json.loads(done.stdout)
    assert done.exit_code == 2 and (result["valid"], result["sha256"]) == (False, "")
    assert result["problems"] == done.stderr.splitlines() != []
