"""`harness shrink`: the result still fails, is minimal, and an interruption loses no work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.log import open_source
from harness.log.events import Event
from harness.log.state import key_of
from harness.shrink.ddmin import ddmin
from harness.shrink.reduction import reduced
from tests.waiting import until

DEMO = "recordings/demo.jsonl"
FAILS = """
slices=$(grep -c '"DELETED".*"endpointslices"' "$1")
services=$(grep -c '"MODIFIED".*"services"' "$1")
[ "$slices" -ge 1 ] && [ "$services" -ge 2 ] && exit 7
exit 0
"""


@pytest.fixture
def fails(tmp_path):
    """A program that fails with 7 on recordings with a deleted slice and two changes of Services."""
    path = tmp_path / "fails.sh"
    path.write_text(FAILS)
    return f"sh {path} {{source}}"


def shrunk(*arguments: object):
    return CliRunner().invoke(main, ["shrink", *map(str, arguments)])


def runs(output: str) -> int:
    return int(output.rpartition("(")[2].split()[0])


@given(st.sets(st.integers(0, 40)), st.integers(0, 41))
def test_ddmin_finds_what_is_needed_and_nothing_else(needed, size):
    parts = list(range(size))
    if needed <= set(parts):
        assert ddmin(parts, lambda kept: needed <= set(kept)) == sorted(needed)


@given(st.lists(st.integers(0, 9), max_size=25), st.integers(1, 30))
def test_the_result_is_minimal_by_single_removals(parts, least):
    def holds(kept):
        return sum(kept) >= least

    if holds(parts):
        found = ddmin(parts, holds)
        assert holds(found) and not any(holds(found[:at] + found[at + 1 :]) for at in range(len(found)))


def test_irrelevant_fields_are_removed():
    manifest = {
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"ports": [{"port": 1}, {"port": 2}], "type": "T"},
    }
    events = [Event(1, 0, "ADDED", "services", msgspec.Raw(json.dumps(manifest).encode()))]

    def holds(kept):
        return any({"port": 2} in (msgspec.json.decode(e.object).get("spec") or {}).get("ports", ()) for e in kept)

    (left,) = reduced(events, holds, lambda what, count: None)
    assert msgspec.json.decode(left.object) == {"spec": {"ports": [{"port": 2}]}}


def test_a_recording_becomes_the_three_events_that_matter(tmp_path, fails):
    small = tmp_path / "small.jsonl"
    done = shrunk(DEMO, small, "--while", fails)
    assert done.exit_code == 0 and "3 events of 300 still end with 7" in done.output, done.output
    with open_source(str(small)) as recording:
        found = [(event.type, event.resource) for event in recording]
    assert sorted(found) == [("DELETED", "endpointslices"), ("MODIFIED", "services"), ("MODIFIED", "services")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fails.sh", "small.jsonl"]


def test_the_demo_is_reduced_to_one_renamed_sticky_service(tmp_path):
    small = tmp_path / "small.jsonl"
    done = shrunk(DEMO, small, "--while", "grep sessionAffinity.*ClientIP {source}", "--exit-code", 0, "--redact")
    assert done.exit_code == 0, done.output
    with open_source(str(small)) as recording:
        (left,) = recording
    assert msgspec.json.decode(left.object)["spec"] == {"sessionAffinity": "ClientIP"}
    with open_source(DEMO) as recording:
        names = {key_of(event)[2] for event in recording if event.resource == "services" and event.type == "ADDED"}
    assert not [name for name in names if name in small.read_text()]


def test_what_was_tried_before_an_interruption_is_not_tried_again(tmp_path, fails):
    small, journal = tmp_path / "small.jsonl", tmp_path / "small.jsonl.shrink"
    command = [sys.executable, "-m", "harness", "shrink", DEMO, str(small), "--while", fails]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until(lambda: journal.exists() and journal.read_text().count("\n") > 8)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143 and not small.exists()
    tried = journal.read_text().count("holds")
    with journal.open("a") as file:
        file.write('{"sha256": "cut o')
    done = shrunk(DEMO, small, "--while", fails)
    again, whole = (
        int(done.output.rpartition("(")[2].split()[0]),
        shrunk(DEMO, tmp_path / "other.jsonl", "--while", fails),
    )
    assert done.exit_code == 0 and again == int(whole.output.rpartition("(")[2].split()[0]) - tried
    assert small.read_bytes() == (tmp_path / "other.jsonl").read_bytes() and not journal.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--while", "true"], 2, "--while: {source} is needed where the recording's file goes in 'true'"),
        (["--while", "true {source}"], 1, "the command succeeds (exit code 0) with all of SOURCE: nothing to shrink"),
        (["--while", "false {source}", "--exit-code", "3"], 1, "the command ends with 1, not 3, with all of SOURCE"),
        (["--while", "false {source}", "--match", "x"], 1, "the command does not print 'x' with all of SOURCE"),
        (["--while", "no-such-program {source}"], 2, "--while: no-such-program: No such file or directory"),
        (["--while", "tail -f {source}", "--timeout", "0.2"], 1, "the command takes over 0.2 s with all of SOURCE"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_unsuitable_command_is_one_line(tmp_path, arguments, code, message):
    done = shrunk(DEMO, tmp_path / "small.jsonl", *arguments)
    assert (done.exit_code, done.output) == (code, f"error: {message}\n")
    assert not (tmp_path / "small.jsonl").exists()
