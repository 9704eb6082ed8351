"""Output and exit codes of `harness diff`."""

from __future__ import annotations

import copy
import json

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.log import initial_events_end, open_source, write_recording
from harness.log.difference import ObjectDifference, differences
from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.positions import position
from harness.log.state import state_at, two_states

DEMO = "recordings/demo.jsonl"
SLICE = {
    "metadata": {"name": "web-a", "namespace": "shop", "resourceVersion": "1", "labels": {"a.b/c": "1"}},
    "endpoints": [{"addresses": [f"10.0.0.{n}"], "conditions": {"ready": True}} for n in (1, 2, 3)],
    "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53}],
}
KEY = ("endpointslices", "shop", "web-a")


def edited(edit) -> dict:
    changed = copy.deepcopy(SLICE)
    edit(changed)
    return changed


def fields(after: dict, **options) -> dict:
    found = list(differences({KEY: msgspec.json.encode(SLICE)}, {KEY: msgspec.json.encode(after)}, **options))
    return {f.path: (f.before, f.after) for change in found for f in change.fields}


EDITS = [
    (lambda m: m["endpoints"].pop(0), {"endpoints[10.0.0.1]": (SLICE["endpoints"][0], msgspec.UNSET)}),
    (lambda m: m["endpoints"].reverse(), {}),
    (lambda m: m["endpoints"][1]["conditions"].update(ready=False),
     {"endpoints[10.0.0.2].conditions.ready": (True, False)}),
    (lambda m: m["endpoints"][1]["conditions"].update(ready=1), {"endpoints[10.0.0.2].conditions.ready": (True, 1)}),
    (lambda m: m["ports"][1].update(port=54), {"ports[dns].port": (53, 54)}),
    (lambda m: m["ports"][1].update(name="http"), {"ports[53].name": ("dns", "http")}),
    (lambda m: m["ports"][1].update(name="http", port=80),
     {"ports[1].name": ("dns", "http"), "ports[1].port": (53, 80)}),
    (lambda m: m["metadata"].update(resourceVersion="2", generation=4, managedFields=[{}]), {}),
    (lambda m: m["metadata"]["labels"].update({"a.b/c": "2", "x": "y"}),
     {"metadata.labels[a.b/c]": ("1", "2"), "metadata.labels[x]": (msgspec.UNSET, "y")}),
    (lambda m: m.update(endpoints=None), {"endpoints": (SLICE["endpoints"], None)}),
    (lambda m: m.pop("ports"), {"ports": (SLICE["ports"], msgspec.UNSET)}),
]  # fmt: skip


@pytest.mark.parametrize("edit, wanted", EDITS)
def test_fields_are_named_and_shown(edit, wanted):
    assert fields(edited(edit)) == wanted


def test_all_fields_counts_bookkeeping_and_order():
    changed = edited(lambda m: (m["metadata"].update(resourceVersion="2"), m["endpoints"].reverse()))
    found = fields(changed, all_fields=True)
    assert found["metadata.resourceVersion"] == ("1", "2")
    assert found["endpoints[0].addresses[0]"] == ("10.0.0.1", "10.0.0.3")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "ports", "conditions", "type", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["spec", "ports", "endpoints"]), JSON, max_size=3)


@given(OBJECTS, OBJECTS)
def test_with_all_fields_no_difference_means_equal_json(before, after):
    texts = msgspec.json.encode(before, order="sorted"), msgspec.json.encode(after, order="sorted")
    found = list(differences({KEY: texts[0]}, {KEY: texts[1]}, all_fields=True))
    assert bool(found) == (texts[0] != texts[1])


@given(OBJECTS, OBJECTS)
def test_both_ways_round_the_same_fields_differ(before, after):
    first, second = ({KEY: msgspec.json.encode(value)} for value in (before, after))
    there = [(f.path, f.after, f.before) for change in differences(first, second) for f in change.fields]
    back = [(f.path, f.before, f.after) for change in differences(second, first) for f in change.fields]
    assert sorted(map(repr, there)) == sorted(map(repr, back))


@pytest.mark.parametrize(
    ("start", "until"),
    [("120", "180"), ("0s", "20s"), ("100", "60s"), ("5s", "1h"), ("1h", "2h")],
)
def test_two_points_of_one_recording_are_compared(start, until):
    with open_source(DEMO) as recording:
        before, after = two_states(recording, position(start), position(until))
    for where, objects in ((start, before), (until, after)):
        with open_source(DEMO) as recording:
            assert state_at(recording, position(where)).objects == objects


def test_a_time_selects_the_last_event_until_then():
    with open_source(DEMO) as recording:
        last = max(event.seq for event in recording if event.t <= 10_000_000_000)
    listings = [CliRunner().invoke(main, ["inspect", DEMO, "--at", at]).output for at in ("10s", str(last))]
    assert listings[0] == listings[1] and '"items"' in listings[0]


def run(*arguments: str):
    return CliRunner().invoke(main, ["diff", *arguments])


def test_exit_codes_are_those_of_diff(tmp_path):
    assert run(DEMO, DEMO).exit_code == 0
    assert run(DEMO, "--from", "120", "--until", "180").exit_code == 1
    quiet = run(DEMO, "-q")
    assert (quiet.exit_code, quiet.output) == (1, "")
    for arguments in ([DEMO, "--until", "999"], [DEMO, "--from", "9", "--until", "5"], [DEMO, "--at-a", "5"],
                      ["-", "-"], [DEMO, DEMO, "--from", "1"], [DEMO, str(tmp_path / "none")]):  # fmt: skip
        assert run(*arguments).exit_code == 2, arguments


def test_the_page_and_the_json_agree(tmp_path):
    def write(name: str, *objects: tuple[str, dict]) -> str:
        events = [
            Event(n, 0, "ADDED", resource, msgspec.Raw(msgspec.json.encode(manifest)))
            for n, (resource, manifest) in enumerate(objects, 1)
        ]
        write_recording(tmp_path / name, Header(FORMAT, VERSION), [*events, initial_events_end(9, 0, "services")])
        return str(tmp_path / name)

    gone, new = {"metadata": {"name": "n1"}}, {"metadata": {"name": "n2"}}
    changed = edited(lambda m: m["ports"][1].update(port=54))
    a = write("a.jsonl", ("endpointslices", SLICE), ("nodes", gone))
    b = write("b.jsonl", ("nodes", new), ("endpointslices", changed))
    assert run(a, b).output.splitlines() == [
        "~ endpointslices shop/web-a",
        "    ports[dns].port  53 -> 54",
        "- nodes n1",
        "+ nodes n2",
        "endpointslices: 0 added, 0 removed, 1 changed, 0 same",
        "nodes: 1 added, 1 removed, 0 changed, 0 same",
    ]
    result = json.loads(run(a, b, "--json").output)
    assert result["summary"]["nodes"] == {"added": 1, "removed": 1, "changed": 0, "same": 0}
    assert msgspec.convert(result["objects"][1], ObjectDifference) == ObjectDifference("removed", "nodes", "", "n1")
    assert result["objects"][0]["fields"] == [{"path": "ports[dns].port", "before": 53, "after": 54}]
