"""Dumps and watches in every format of kubectl and KWOK, and invalid input."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest
import yaml
import zstandard
from click.testing import CliRunner

from harness.cli import main
from harness.log import RecordingError, open_source
from harness.log.imports import convert

DEMO = "recordings/demo.jsonl"


def events_of(path):
    with open_source(path) as recording:
        return [(e.t, e.type, e.resource, json.loads(bytes(e.object))) for e in recording if e.type != "BOOKMARK"]


@pytest.fixture(scope="module")
def listing() -> dict:
    """A List as `harness inspect --at` prints it, and kubectl does."""
    done = CliRunner().invoke(main, ["inspect", DEMO, "--at", "150"])
    return json.loads(done.output)


def forms(listing: dict) -> dict[str, str]:
    documents = [yaml.safe_dump(item) for item in listing["items"]]
    services = [item for item in listing["items"] if item["kind"] == "Service"]
    bare = [{name: field for name, field in item.items() if name not in ("kind", "apiVersion")} for item in services]
    return {
        "a JSON List": json.dumps(listing),
        "an indented JSON List": "\n\n" + json.dumps(listing, indent=4),
        "JSON objects": "\n".join(map(json.dumps, listing["items"])),
        "a YAML List": yaml.safe_dump(listing),
        "YAML documents": "---\n".join(documents),
        "YAML with markers, comments and blanks": "# a dump\n---\n" + "\n---   # next\n".join(documents) + "...\n---\n",
        "a typed list and the rest": json.dumps({"apiVersion": "v1", "kind": "ServiceList", "items": bare})
        + json.dumps(listing | {"items": [item for item in listing["items"] if item["kind"] != "Service"]}),
    }


def test_every_input_format_gives_the_same_recording(listing, tmp_path):
    wanted = sorted((i["metadata"].get("namespace", ""), i["metadata"]["name"]) for i in listing["items"])
    for name, text in forms(listing).items():
        source, out = tmp_path / "in", tmp_path / "out.jsonl"
        source.write_text(text)
        convert(str(source), out)
        found = events_of(out)
        assert {(t, kind) for t, kind, *_ in found} == {(0, "ADDED")}, name
        assert sorted((o["metadata"].get("namespace", ""), o["metadata"]["name"]) for *_, o in found) == wanted, name
        specs = {o["metadata"]["name"]: o["spec"] for _, _, resource, o in found if resource == "services"}
        assert specs == {i["metadata"]["name"]: i["spec"] for i in listing["items"] if i["kind"] == "Service"}, name


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_sources_are_read(listing, tmp_path, pack):
    (tmp_path / "in").write_bytes(pack(json.dumps(listing).encode()))
    assert convert(str(tmp_path / "in"), tmp_path / "out.jsonl.zst").events == len(listing["items"]) + 3
    assert len(events_of(tmp_path / "out.jsonl.zst")) == len(listing["items"])


def test_a_watch_keeps_its_order_with_one_second_per_event(listing, tmp_path):
    first, second = listing["items"][:2]
    watch = [("ADDED", first), ("ADDED", second), ("BOOKMARK", {}), ("MODIFIED", second), ("DELETED", first)]
    text = "\n".join(json.dumps({"type": kind, "object": item}) for kind, item in watch)
    (tmp_path / "in").write_text(text)
    report = convert(str(tmp_path / "in"), tmp_path / "out.jsonl")
    found = [(t / 1e9, kind) for t, kind, *_ in events_of(tmp_path / "out.jsonl")]
    assert found == [(0, "ADDED"), (0, "ADDED"), (1, "MODIFIED"), (2, "DELETED")]
    assert report.dropped == {"watch event BOOKMARK": 1} and report.changes == 2


def test_managed_fields_are_dropped_and_times_stay_text(tmp_path):
    (tmp_path / "in").write_text(
        "kind: Node\nmetadata:\n  name: n1\n"
        "  creationTimestamp: 2026-01-01T00:00:00Z\n  managedFields: [{manager: x}]\n"
    )
    convert(str(tmp_path / "in"), tmp_path / "out.jsonl")
    ((*_, node),) = events_of(tmp_path / "out.jsonl")
    assert node["metadata"] == {"name": "n1", "creationTimestamp": "2026-01-01T00:00:00Z"}


NODE = "kind: Node\nmetadata: {name: n1}\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no Service, EndpointSlice, Node or Pod in it: it is empty"),
        ("# nothing\n---\n", "no Service, EndpointSlice, Node or Pod in it: it is empty"),
        ("kind: Secret\nmetadata: {name: x}\n", "no Service, EndpointSlice, Node or Pod in it; only 1 kind Secret"),
        (f"{NODE}---\nkind: Node\nmetadata: {{name: [}}\n", ":5: not YAML: "),
        (f"{NODE}---\n- 1\n", ":4: document 2 is [1]; an object is needed"),
        (f"{NODE}---\nkind: Node\nmetadata: {{}}\n", ":4: document 2: Node without a metadata.name"),
        (f"{NODE}---\n{NODE}spec: {{}}\n", ":4: document 2: nodes//n1 occurs twice with different contents"),
        (f"{NODE}---\nname: n1\n", ":4: document 2: neither an object with a kind, nor a List, nor a watch event"),
        ("kind: List\nitems: 7\n", ":1: document 1: items is int; a list is needed"),
        ("kind: List\nitems: [7]\n", ":1: document 1: item 1 is 7; an object is needed"),
        ("kind: NodeList\nitems: [{metadata: {}}]\n", ":1: document 1: item 1: Node without a metadata.name"),
        ('{"kind": "Node", "metadata": {"name": "n1"}}\n{"kind":', ":2: not JSON: "),
        ('{"format":"kube-proxy-harness/recording","version":1}\n', ":1: document 1: this is already a recording"),
        ("kind: Node\nmetadata: &a {name: n1, self: *a}\n", "document 1: "),
    ],
)
def test_bad_input_is_reported_with_its_place_and_leaves_nothing(tmp_path, text, message):
    (tmp_path / "in").write_text(text)
    with pytest.raises(RecordingError) as caught:
        convert(str(tmp_path / "in"), tmp_path / "out.jsonl")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]


def test_a_source_without_slices_gets_a_warning(tmp_path):
    (tmp_path / "in").write_text(NODE)
    done = CliRunner().invoke(main, ["import", str(tmp_path / "in"), str(tmp_path / "out.jsonl")])
    assert done.exit_code == 0 and "contains no EndpointSlice" in done.output


def test_binary_input_and_truncated_archives(tmp_path):
    for content in (b"kind: \xff\xfe\n", gzip.compress(NODE.encode() * 100)[:40], b"\x28\xb5\x2f\xfdnonsense"):
        (tmp_path / "in").write_bytes(content)
        with pytest.raises(RecordingError):
            convert(str(tmp_path / "in"), tmp_path / "out.jsonl")


def test_the_command_reads_standard_input_and_exits_with_2(listing, tmp_path):
    command = [sys.executable, "-m", "harness", "import", "-", str(tmp_path / "out.jsonl")]
    done = subprocess.run(command, input=yaml.safe_dump(listing), capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(listing['items']) + 3} events, of which 0 are changes" in done.stdout
    done = subprocess.run(command, input="kind: [", capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("-:1: not YAML"), done.stderr
    done = CliRunner().invoke(main, ["import", "x", "y", "--start", "yesterday"])
    assert done.exit_code == 2 and "2026-01-01T00:00:00Z" in done.output
