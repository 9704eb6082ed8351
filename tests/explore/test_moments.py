"""A moment in `harness explore` equals the output of inspect, diff, plan and trace."""

from __future__ import annotations

import json

import msgspec
import pytest

from harness.explore import views
from harness.explore.history import EVERY, read_history
from harness.explore.rules import MODES, changed_lines, concerned, rules
from harness.explore.run import read_run
from harness.log import open_source, write_recording
from harness.log.difference import differences
from harness.log.events import Event, Header
from harness.log.state import state_at
from harness.replay.explain import Question, explain, explain_state
from harness.replay.plan import PlanOptions, programs
from tests.chaos_report.runs import ordinary, write_run

from .conftest import DEMO

SERVICE = ("contingency-team", "users-gateway")


@pytest.mark.parametrize("count", [1, EVERY - 1, EVERY, EVERY + 1, 300])
def test_the_state_is_what_inspect_prints(demo, count):
    with open_source(DEMO) as recording:
        expected = state_at(recording, ("seq", demo.events[count - 1].seq))
    assert demo.objects(count) == expected.objects
    assert demo.objects(0) == {}


def test_each_change_is_what_diff_prints(demo):
    facts = views.ManifestFacts(demo.events)
    for count in range(demo.initial + 1, len(demo) + 1, 7):
        before, after = demo.objects(count - 1), demo.objects(count)
        expected = [msgspec.to_builtins(each) for each in differences(before, after)]
        assert views.change(demo.moment(count), facts)["changes"] == expected


def test_times_and_seqs_select_events(demo):
    assert [demo.index_of(("seq", n)) for n in (0, 1, 300, 999)] == [0, 1, 300, 300]
    assert demo.index_of(("t", demo.duration)) == len(demo)
    middle = demo.events[200]
    assert demo.index_of(("t", middle.t)) >= 201 > demo.index_of(("t", middle.t - 1))


def test_every_event_after_the_initial_list_is_on_the_timeline(demo):
    assert sum(sum(row.values()) for row in demo.density(views.BUCKETS, demo.duration)) == len(demo) - demo.initial


def test_rows_count_endpoints_by_condition_and_come_in_pages(demo):
    objects, facts = demo.objects(150), views.ManifestFacts(demo.events)
    whole = views.services(objects, facts, "", 0, 500)
    parts = [views.services(objects, facts, "", first, 10)["rows"] for first in range(0, whole["total"], 10)]
    assert [row for part in parts for row in part] == whole["rows"] and whole["total"] == len(whole["rows"]) > 40
    for row in whole["rows"]:
        found = views.service(objects, facts, row["namespace"], row["name"])
        ends = found["endpoints"]
        assert (row["ready"], row["all"]) == (sum(end["ready"] for end in ends), len(ends))
    filtered = views.services(objects, facts, "users-gateway", 0, 500)["rows"]
    assert filtered == [row for row in whole["rows"] if "users-gateway" in f"{row['namespace']}/{row['name']}"]


@pytest.mark.parametrize("mode", MODES)
def test_rules_are_those_that_plan_prints(demo, tmp_path, mode):
    objects, facts = demo.objects(150), views.ManifestFacts(demo.events)
    keys = concerned(objects, facts, SERVICE, None)
    path = tmp_path / "alone.jsonl"
    events = [Event(n, 0, "ADDED", key[0], objects[key]) for n, key in enumerate(keys, 1)]
    write_recording(path, demo.header, events)
    expected = "".join(text for each in programs(str(path), PlanOptions(mode)) for _, text in each.sections())
    text = rules(demo.header.cluster, objects, facts, SERVICE, mode, None)
    assert "".join(line for line in text.splitlines(True) if not line.startswith("# IPv")) == expected
    assert rules(demo.header.cluster, {}, facts, SERVICE, mode, None) == ""


def test_a_packet_goes_where_trace_says(demo):
    question = Question("external:203.0.113.7", "svc:contingency-team/users-gateway:http", "nftables")
    expected = explain(DEMO, question, at=("seq", 150))
    assert explain_state(demo.header.cluster, demo.objects(150), question, None) == expected


def test_changed_lines():
    assert changed_lines("a\nb\n", "a\nc\n") == [
        {"kind": "gap", "text": "@ -1,2 +1,2 @@"}, {"kind": "same", "text": "a"},
        {"kind": "removed", "text": "b"}, {"kind": "added", "text": "c"},
    ]  # fmt: skip
    assert changed_lines("a\n", "a\n") == []


def test_a_chaos_run_brings_its_faults_and_requests(tmp_path):
    folder = ordinary(tmp_path)
    finding = {"fault": "pod-kill", "began": 2.0, "ended": None, "pods": ["web-1"], "nodes": [], "lost": 3}
    (folder / "verdict.json").write_text(json.dumps({"value": None, "findings": [finding]}))
    run = read_run(folder)
    assert run.verdict is None and run.ended == 20.0 and run.incomplete == []
    assert [(f.name, f.began, f.ended, f.targets) for f in run.faults] == [("pod-kill", 2.0, 2.0, ["web-1"])]
    assert run.step_seconds == 1 and [each.at for each in run.requests] == list(range(2, 20))
    assert [(each.answered, each.lost, each.p99_ms) for each in run.requests[1:4]] == [
        (100, 0, 4.3), (100, 10, 4.4), (100, 10, 4.5)
    ]  # fmt: skip
    assert sum(each.lost for each in run.requests) == 21
    (folder / "verdict.json").write_text("{}")
    with pytest.raises(ValueError, match=r"verdict\.json: not a chaos run's verdict"):
        read_run(folder)


def test_a_long_runs_requests_are_added_up_and_a_log_without_an_end_is_named(tmp_path):
    folder = write_run(tmp_path, [], seconds=602.0)
    (folder / "verdict.json").write_text('{"value": true, "findings": []}')
    run = read_run(folder)
    assert run.step_seconds == 3 and len(run.requests) == 200
    assert {each.answered for each in run.requests} == {300}
    assert run.requests[0].p99_ms == 4.4, "of the worst second"
    log = folder / "load" / "client.jsonl"
    log.write_bytes(log.read_bytes()[:5000])
    cut = read_run(folder)
    assert cut.incomplete == ["client"] and 10 < len(cut.requests) < 40
    log.unlink()
    assert (read_run(folder).incomplete, read_run(folder).requests) == (["client"], [])


def test_slices_that_are_not_valid_and_an_empty_recording_are_shown(tmp_path):
    odd = {("endpointslices", "a", "b"): msgspec.Raw(b'{"metadata":{"name":"b","labels":3},"endpoints":7}')}
    assert views.services(odd, views.ManifestFacts(), "", 0, 10)["rows"] == []
    path = tmp_path / "empty.jsonl"
    write_recording(path, Header("kube-proxy-harness/recording", 1), [])
    with open_source(str(path)) as recording:
        history = read_history(recording)
    assert views.overview(history)["events"] == 0 and history.moment(0) is None


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ({"phase": "inject", "fault": "cut", "pods": ["web-1"], "nodes": ["node-2"]}, "inject cut: web-1, node-2"),
        ({"phase": "plan", "plan": {"pods": 3}}, "plan"),
        ({"pods": 3}, "fault"),
        ([], "fault"),
    ],
)  # fmt: skip
def test_a_marker_of_a_chaos_run_names_its_fault(marker, words):
    event = Event(1, 0, "FAULT", "pods", msgspec.Raw(json.dumps(marker).encode()))
    assert views.event_row(1, event)["object"] == words
    assert views.event_row(1, Event(2, 0, "GAP", "pods", msgspec.Raw(b"{}")))["object"] == "pods"
