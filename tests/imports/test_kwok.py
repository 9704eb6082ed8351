"""A KWOK recording, written by KWOK's own code, gives back the history that it was written from."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from harness.log import RecordingError, open_source
from harness.log.imports import convert
from harness.log.imports.kwok import resource_patch

DATA = Path(__file__).parent / "data"
START = "2026-01-01T00:00:00Z"


def events_of(path) -> list[tuple]:
    """Time, type, resource and object of every event about an object, times as KWOK rounds them, nulls left out."""
    with open_source(path) as recording:
        return [
            (event.t, event.type, event.resource, plain(bytes(event.object)))
            for event in recording
            if event.type != "BOOKMARK"
        ]


def plain(manifest: bytes) -> dict:
    return without_null(msgspec.json.decode(manifest.replace(b".000000Z", b"Z")))


def without_null(value):
    if isinstance(value, dict):
        return {name: without_null(field) for name, field in value.items() if field is not None}
    return [without_null(item) for item in value] if isinstance(value, list) else value


def patch(method: str, template=None, name: str = "web", resource: str = "services", t: int = 5) -> dict:
    document = {
        "apiVersion": "action.kwok.x-k8s.io/v1alpha1",
        "kind": "ResourcePatch",
        "resource": {"version": "v1", "resource": resource},
        "target": {"name": name, "namespace": "shop"},
        "durationNanosecond": t,
        "method": method,
    }
    return document | ({} if template is None else {"template": template})


def service(**spec) -> dict:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


def imported(tmp_path, *documents):
    source, out = tmp_path / "in.json", tmp_path / "out.jsonl"
    source.write_text("\n".join(map(json.dumps, documents)))
    return convert(str(source), out), events_of(out)


def test_the_history_survives_a_round_trip(tmp_path):
    report = convert(str(DATA / "kwok.yaml"), tmp_path / "out.jsonl", START)
    assert events_of(tmp_path / "out.jsonl") == events_of(DATA / "history.jsonl")
    assert report.dropped == {}
    with open_source(tmp_path / "out.jsonl") as recording:
        assert recording.header.start == START
        assert recording.header.resources == ("nodes", "services", "endpointslices", "pods")


def test_times_count_from_the_given_start(tmp_path):
    created = service() | {"metadata": {"name": "web", "creationTimestamp": "$(time-offset-nanosecond -1500000000)"}}
    source = tmp_path / "in.json"
    source.write_text(json.dumps(created))
    convert(str(source), tmp_path / "out.jsonl", "2026-03-01T00:00:00+01:00")
    assert events_of(tmp_path / "out.jsonl")[0][3]["metadata"]["creationTimestamp"] == "2026-02-28T22:59:58.500000Z"


def test_left_out_events_are_counted(tmp_path):
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    foreign = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "web"}}
    changed = patch("delete", resource="deployments")
    changed["resource"]["group"] = "apps"
    report, events = imported(tmp_path, deployment, foreign, service(), changed)
    assert report.dropped == {
        "change of deployments.apps": 1, "kind Deployment": 1, "kind Service of serving.knative.dev": 1,
    }  # fmt: skip
    assert len(events) == 1


def test_a_late_change_keeps_its_position(tmp_path):
    _, events = imported(
        tmp_path, service(), patch("patch", {"spec": {"a": 1}}, t=9), patch("patch", {"spec": {"a": 2}}, t=7)
    )
    assert [event[0] for event in events] == [0, 9, 9]


@pytest.mark.parametrize(
    "documents, message",
    [
        (
            [service(), patch("patch", {}, name="other")],
            "2: patch of services/shop/other, which does not exist",
        ),
        (
            [service(), patch("delete"), patch("delete")],
            "3: delete of services/shop/web, which does not exist",
        ),
        ([service(), patch("patch")], "document 2: method patch without a template"),
        ([service(), patch("apply", {})], "document 2: method is 'apply'; create, patch or delete is needed"),
        ([service(), patch("patch", {}, t="soon")], "durationNanosecond"),
    ],
)
def test_an_invalid_step_names_its_document(tmp_path, documents, message):
    with pytest.raises(RecordingError) as caught:
        imported(tmp_path, *documents)
    assert message in str(caught.value)
    assert f":{len(documents)}:" in str(caught.value), "a line for each document here"
    assert list(tmp_path.iterdir()) == [tmp_path / "in.json"]


def test_a_patch_is_typed():
    assert resource_patch(patch("delete")).known == "services"
    assert resource_patch(patch("delete", resource="endpointslices")).known is None, "its group is discovery.k8s.io"
