"""Figures and verdicts in edge cases: ranks, changes without effect, clocks, unknown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.kernel.interface import Applied
from engine.tracking import ClusterState
from harness.exit_codes import EXIT_UNKNOWN
from harness.modes import nftables
from harness.replay import checks
from harness.replay.kernels import ReplayTarget
from harness.replay.latencies import EXACT_UP_TO, Latencies
from harness.replay.objectives import exit_code, judge
from harness.replay.report.terminal import headline
from harness.replay.result import (
    EngineSettings,
    InitialConvergence,
    RecordingFacts,
    ReplayResult,
    Verdict,
    Verification,
)
from harness.replay.session import ReplayOptions, ReplaySession
from harness.replay.tally import ReplayTally
from tests.cli.here import harness

DEMO = "recordings/demo.jsonl"


def of(samples) -> dict:
    found = Latencies()
    for sample in samples:
        found.record(sample)
    return found.summary()


@pytest.mark.parametrize(("fast", "slow"), [(98, 1), (197, 2), (99, 1), (9, 1), (999, 11)])
def test_the_p99_is_exceeded_by_at_most_one_percent(fast, slow):
    """Of 99 changes one took 59 s: that is more than one percent of them."""
    percentile = of([0.008] * fast + [59.0] * slow)["p99"]
    assert percentile == (59.0 if slow / (fast + slow) > 0.01 else 0.008)


def test_many_samples_have_the_same_percentiles_within_a_thousandth():
    samples = [number / 1000 for number in range(1, 2 * EXACT_UP_TO + 1)]
    assert of(samples)["p99"] == pytest.approx(0.99 * samples[-1], rel=2e-3)


def recording(path: Path, *changes: tuple[float, str, dict]) -> Path:
    """The demo's initial list, then changes: (second, type, manifest)."""
    lines = [json.loads(line) for line in Path(DEMO).read_text().splitlines()]
    kept = [line for line in lines[1:] if line["t"] == 0]
    for at, kind, manifest in changes:
        resource = {"Service": "services", "EndpointSlice": "endpointslices"}[manifest["kind"]]
        kept.append({"t": int(at * 1e9), "type": kind, "resource": resource, "object": manifest})
    numbered = [{**line, "seq": number} for number, line in enumerate(kept, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in [lines[0], *numbered]))
    return path


def a_slice() -> dict:
    """Of the demo's initial list, with several endpoints."""
    for line in Path(DEMO).read_text().splitlines()[1:]:
        event = json.loads(line)
        if event["resource"] == "endpointslices" and event["type"] == "ADDED":
            if len(event["object"].get("endpoints") or ()) > 3:
                return event["object"]
    raise AssertionError("the demo has no such slice")


def edited(manifest: dict, version: int, endpoints: int | None = None, **labels: str) -> dict:
    meta = {**manifest["metadata"], "resourceVersion": str(900000 + version)}
    meta["labels"] = {**meta["labels"], **labels}
    return {**manifest, "metadata": meta, "endpoints": manifest["endpoints"][:endpoints]}


def replayed(path: Path, wrap=lambda kernel: kernel, **options):
    opened = nftables.memory()
    target = ReplayTarget(wrap(opened.kernel), opened.view, {"kind": "memory"}, None)
    return ReplaySession(str(path), ReplayOptions(**options), target, lambda *_: None).run()


def test_changes_without_effect_are_counted_apart(tmp_path):
    """One that sends nothing, two that undo each other before a sync, and one that counts."""
    piece = a_slice()
    path = recording(
        tmp_path / "r.jsonl",
        (10.0, "MODIFIED", edited(piece, 1, 2)),
        (10.1, "MODIFIED", edited(piece, 2, 1)),
        (10.2, "MODIFIED", edited(piece, 3, 2)),
        (20.0, "MODIFIED", edited(piece, 4, None)),
    )
    change = replayed(path).change
    assert change.count == 2
    assert change.not_counted == {"nothing_to_program": 0, "undone_before_sync": 2}
    assert sum(kind.count for kind in change.by_kind.values()) == 2


class Sleepy:
    """Sleeps before anything that the engine's own clock sees."""

    def __init__(self, proxier, seconds: float) -> None:
        self._inner, self._seconds = proxier.sync, seconds

    def __call__(self):
        time.sleep(self._seconds)
        return self._inner()


def test_a_sync_that_starts_its_clock_late_is_slow_all_the_same(tmp_path, monkeypatch):
    from engine.proxier import Proxier

    made = Proxier.__init__

    def asleep(self, *args, **more):
        made(self, *args, **more)
        self.sync = Sleepy(self, 0.2)

    monkeypatch.setattr(Proxier, "__init__", asleep)
    path = recording(tmp_path / "r.jsonl", (10.0, "MODIFIED", edited(a_slice(), 1, 2)))
    change = replayed(path).change
    assert change.work_seconds["p50"] >= 0.2
    assert change.convergence_seconds["p50"] >= 0.2
    assert change.hidden_seconds["max"] >= 0.2 > change.engine_work_seconds["max"]


def test_nodes_that_come_last_are_known_before_the_first_sync(tmp_path):
    """As a recorder writes them: the list of Nodes ends after those that a first sync needs."""
    lines = [json.loads(line) for line in Path(DEMO).read_text().splitlines()]
    initial = [line for line in lines[1:] if line["t"] == 0]
    last = [line for line in initial if line["resource"] == "nodes"]
    events = (
        [line for line in initial if line["resource"] != "nodes"] + last + [line for line in lines[1:] if line["t"]]
    )
    path = tmp_path / "late.jsonl"
    numbered = [{**event, "seq": number} for number, event in enumerate(events, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in [lines[0], *numbered]))
    late, usual = replayed(path), replayed(Path(DEMO))
    assert "node node-0001" in headline(late)
    assert late.digest == usual.digest


VERIFICATION = Verification("full", "kernel", "", {}, {}, [])


def result(verified: Verdict = True, changes: int = 9, services: int = 3) -> ReplayResult:
    """Of changes that took 0.5 s each."""
    tally = ReplayTally(initial=InitialConvergence(1.0))
    for _ in range(changes):
        tally.work.record(0.5)
        tally.convergence.record(0.5)
    about = VERIFICATION if verified is True else replace(VERIFICATION, unknown_because="it was disabled")
    return tally.result(
        RecordingFacts("x", services, 0, "", 9), EngineSettings("ipvs", 1.0, None), {}, "a", (verified, about)
    )


@pytest.mark.parametrize(
    ("limits", "facts", "verdict", "code"),
    [
        ({"max_p99": 1.0}, {}, True, 0),
        ({"max_p99": 0.1}, {}, False, 4),
        ({"max_work_p99": 0.1}, {}, False, 4),
        ({"max_p99": 1.0}, {"changes": 0}, "unknown", EXIT_UNKNOWN),
        ({"max_work_p99": 1.0}, {"changes": 0}, "unknown", EXIT_UNKNOWN),
        ({"max_initial": 2.0}, {"services": 0}, "unknown", EXIT_UNKNOWN),
        ({"max_p99": 1.0}, {"verified": "unknown"}, "unknown", EXIT_UNKNOWN),
        ({"max_p99": 0.1}, {"verified": "unknown"}, False, 4),
    ],
)
def test_a_gate_is_true_false_or_unknown(limits, facts, verdict, code):
    found = judge([result(**facts)], limits, None)
    assert found[-1].objective.verdict == verdict
    assert exit_code(found, asked=True) == code


def test_one_run_of_several_without_samples_leaves_the_gate_unknown():
    found = judge([result(), result(changes=0)], {"max_p99": 1.0}, None)
    assert found[-1].objective.verdict == "unknown"


@pytest.mark.parametrize("command", ["replay", "compare"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-p99", "nan"), "'nan' is not a number of seconds"),
        (("--max-initial", "-1"), "'-1' is not a number of seconds"),
        (("--max-work-p99", "inf"), "'inf' is not a number of seconds"),
    ],
)
def test_limits_that_nothing_can_exceed_are_refused(command, arguments, message):
    done = harness(command, DEMO, "--kernel", "memory", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_an_empty_digest_is_rejected():
    done = harness("replay", DEMO, "--kernel", "memory", "--expect-digest", "")
    assert done.returncode == 2
    assert "'' is not a digest" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--until", "0s", "--max-p99", "0.000001"),
        ("--no-verify", "--max-p99", "60"),
        ("--verify", "none", "--max-work-p99", "60"),
    ],
)
def test_nothing_measured_or_verified_is_unknown(arguments):
    done = harness("replay", DEMO, "--kernel", "memory", *arguments, "--json", "-")
    assert done.returncode == EXIT_UNKNOWN, done.stderr
    assert "unknown: " in done.stderr
    assert json.loads(done.stdout)["objectives"][-1]["verdict"] == "unknown"


def test_compare_has_the_same_code_for_unknown():
    arguments = ("--kernel", "memory", "--modes", "nftables,userspace", "--until", "0s", "--max-p99", "1")
    assert harness("compare", DEMO, *arguments).returncode == EXIT_UNKNOWN


def test_a_replay_into_memory_is_not_verified():
    done = harness("replay", DEMO, "--kernel", "memory")
    assert done.returncode == 0
    assert "the kernel agreed" not in done.stdout
    assert "verified in memory: the program agreed" in done.stdout


def test_falling_back_to_memory_verifies_nothing():
    command = [sys.executable, "-m", "harness", "replay", DEMO]
    without_tools = {**os.environ, "PATH": "/nowhere", "CI": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=without_tools)
    assert done.returncode == EXIT_UNKNOWN
    assert "agreed" not in done.stdout
    assert "verified: unknown: no kernel held the rules" in done.stdout


def test_an_empty_cluster_leaves_nothing_to_verify(tmp_path):
    lines = Path(DEMO).read_text().splitlines()
    path = tmp_path / "empty.jsonl"
    kept = [line for line in lines if '"resource":"nodes"' in line and '"t":0' in line]
    path.write_text("\n".join([lines[0], *kept]) + "\n")
    done = harness("replay", str(path), "--kernel", "memory")
    assert done.returncode == EXIT_UNKNOWN
    assert "nothing to verify" in done.stdout


def test_a_small_recording_is_checked_after_every_batch(monkeypatch):
    monkeypatch.setattr(checks, "AT_LEAST_SECONDS", 60.0)  # as many times as long as on a machine that is not busy
    monkeypatch.setattr(checks, "A_BATCH_SECONDS", 60.0)
    found = replayed(Path(DEMO))
    assert found.checks > found.syncs


def test_what_time_allows_is_spread_over_the_recording(monkeypatch):
    """A check here takes 50 ms, so that there is no time for one after each sync."""
    monkeypatch.setattr(checks, "AT_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(checks, "A_BATCH_SECONDS", 0.01)
    syncs = []
    # A check that takes longer than its share of time: the sleep is that check.
    monkeypatch.setattr(
        checks.Checks, "_read_back", lambda self, _: syncs.append(self._tally.syncs) or time.sleep(0.05) or []
    )
    found = replayed(Path(DEMO))
    middle = [number for number in syncs if found.syncs / 3 < number < found.syncs * 2 / 3]
    assert len(syncs) < found.syncs and len(middle) > len(syncs) / 5


def test_ignored_changes_are_checked_before_they_are_undone(tmp_path, monkeypatch):
    """It does not ask for a sync, so none is counted: the check must not wait for one."""
    path = recording(
        tmp_path / "r.jsonl", (5, "MODIFIED", edited(a_slice(), 1, 1)), (10, "MODIFIED", edited(a_slice(), 2))
    )
    assert replayed(path).verified is True
    observe = ClusterState.observe
    deaf = lambda state, kind, resource, raw: kind == "ADDED" and observe(state, kind, resource, raw)  # noqa: E731
    monkeypatch.setattr(ClusterState, "observe", deaf)
    found = replayed(path, check_every=1)
    assert found.verified is False and "asked for no sync" in found.differences[0]


class Moody:
    """Loses an element in the middle, and has it back with the next program that has any."""

    def __init__(self, inner) -> None:
        self._inner, self._held, self._count = inner, None, 0

    def apply(self, program) -> Applied:
        self._count += 1
        found = [change for change in program.sets if change.name == "tcp-endpoints" and change.add]
        if found and self._held:
            found[0].add.append(self._held.pop())
        elif found and self._held is None and self._count > 20:
            self._held = [found[-1].add.pop()]
        return self._inner.apply(program)


def test_a_temporary_difference_in_the_middle_is_detected():
    assert replayed(Path(DEMO), Moody, check_every=1).verified is False
