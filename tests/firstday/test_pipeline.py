"""Walk 2: a pipeline without namespaces: no gate passes without evidence."""

from __future__ import annotations

import json

import pytest

from tests.firstday.account import ROOT, without_namespaces

DEMO = ROOT / "recordings/demo.jsonl"
WAYS_OUT = ("user.max_user_namespaces", "--kernel memory", "--kernel vm")


@pytest.fixture
def pipeline(user):
    return without_namespaces(user)


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["--max-p99", "60"], {}),
        (["--expect-digest", "0" * 64], {}),
        (["--kernel", "netns"], {}),
        ([], {"CI": "true"}),
    ],
    ids=["gate", "digest", "kernel", "CI"],
)
def test_a_requested_kernel_that_is_missing_is_an_error(pipeline, options, variables):
    done = pipeline.harness("replay", DEMO, *options, **variables)
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and all(way in done.stderr for way in WAYS_OUT)
    assert "the limit on namespaces is reached" in done.stderr and "No space left" not in done.stderr


def test_without_a_gate_page_and_result_say_that_nothing_is_verified(pipeline):
    done = pipeline.harness("replay", DEMO, "--json", "result.json")
    assert done.returncode == 6, done.stderr
    first, *_ = done.stdout.splitlines()
    assert first.startswith("NO KERNEL, nothing is verified: ") and "agreed" not in done.stdout
    result = json.loads((pipeline.home / "result.json").read_text())
    assert result["verified"] == "unknown" and result["kernel"]["kind"] == "memory" and result["kernel"]["reason"]


def test_a_replay_into_requested_memory_succeeds(pipeline):
    done = pipeline.harness("replay", DEMO, "--kernel", "memory", "--max-p99", "60", CI="true")
    assert done.returncode == 0, done.stderr
    assert "NO KERNEL" in done.stdout.splitlines()[0]


def test_a_comparison_states_once_why_figures_are_missing(pipeline):
    done = pipeline.harness("compare", DEMO, "--modes", "nftables,iptables")
    assert done.returncode == 1
    assert done.stdout.startswith("nftables, iptables: no figures: cannot make")
    assert all(way in done.stdout.splitlines()[0] for way in WAYS_OUT)


def test_a_lab_and_a_chaos_run_suggest_a_solution(pipeline):
    done = pipeline.harness("lab", "up")
    assert done.returncode == 1 and "user.max_user_namespaces" in done.stderr
    done = pipeline.harness("chaos", "run", "pod-kill", "--out", "run")
    assert done.returncode == 3 and "user.max_user_namespaces" in done.stdout + done.stderr
