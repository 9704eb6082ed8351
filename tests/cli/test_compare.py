"""`harness compare`: one table, a reason for each mode that is not available, gates, and true differences."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from harness.conformance.corpus.clusters import E1, E2, LB, end, node, service, slice_
from harness.judge.oracle import Oracle, Settings
from harness.judge.oracle.differences import FACTS, differences
from harness.modes import MODES
from harness.replay.compare.result import Comparison
from harness.replay.report.comparison import print_comparison
from tests.cases.synced import oracle_of
from tests.cli import here

DEMO = "recordings/demo.jsonl"
QUICK = ("--modes", "nftables,userspace", "--kernel", "memory", "--until", "60s")


def harness(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness", *arguments], capture_output=True, text=True, **more)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[str, dict]:
    path = tmp_path_factory.mktemp("compared") / "c.json"
    done = harness("compare", DEMO, *QUICK, "--json", str(path))
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text())


def test_a_mode_is_a_column_with_the_figures_of_its_replay(compared):
    page, written = compared
    assert re.search(r"nftables +userspace", page)
    for run in written["modes"]:
        result = run["result"]
        assert result["engine"]["mode"] == run["mode"]
        assert f"{result['operations']:,}" in page
        assert result["verified"] is True
    shared = {run["result"]["recording"]["sha256"] for run in written["modes"]}
    assert len(shared) == 1
    assert "DIFFERENT KERNELS" not in page


def test_the_json_is_documented(compared):
    page = Path("docs/modes.md").read_text().split("## Comparing")[1]
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.M))
    written = compared[1]
    named = set(written)
    for part in ("modes", "differences"):
        named |= {f"{part}.{name}" for name in written[part][0]}
    assert documented == named


def test_differences_are_counted_with_an_example(compared):
    page, written = compared
    drops = next(row for row in written["differences"] if row["id"] == "CMP-06")
    assert drops["by_mode"] == {"nftables": "dropped", "userspace": "refused"}
    assert drops["example"] in page


def test_modes_on_one_kernel_are_not_reported_to_differ_in_kernels(kernel_namespaces):
    done = harness("compare", DEMO, "--modes", "iptables,nftables", "--until", "0s", "--verify", "none", "--json", "-")
    assert done.returncode == 0, done.stderr
    kernels = {run["result"]["kernel"]["release"] for run in json.loads(done.stdout)["modes"]}
    assert len(kernels) == 1 and "DIFFERENT KERNELS" not in done.stderr


def test_different_kernels_are_reported(compared):
    made = copy.deepcopy(compared[1])
    for run, release in zip(made["modes"], ("6.1.0", "6.18.0"), strict=True):
        run["result"]["kernel"] |= {"kind": "netns", "release": release}
    shown = Console(record=True, width=200, file=io.StringIO())
    print_comparison(msgspec.convert(made, Comparison), shown)
    assert "DIFFERENT KERNELS" in shown.export_text()


def test_a_mode_that_is_not_available_is_reported_with_its_reason():
    without_tools = {**os.environ, "PATH": "/nowhere"}
    done = harness("compare", DEMO, "--modes", "iptables,userspace", "--kernel", "netns", env=without_tools)
    assert done.returncode == 1
    assert "iptables: no figures: unshare is not installed (package util-linux)" in done.stdout
    assert "userspace: no figures: not installed: ss (package iproute2)" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("gate", "code", "message"),
    [
        (["--max-p99", "0.0001"], 4, "nftables: gate: --max-p99 0.0001 s exceeded"),
        (["--max-initial", "0.000001"], 4, "userspace: gate: --max-initial 1e-06 s exceeded"),
        (["--max-p99", "60", "--max-initial", "60"], 0, ""),
        (["--max-p99", "60", "--no-verify"], 6, "userspace: unknown: "),
    ],
)
def test_gates_are_those_of_replay(gate, code, message):
    done = harness("compare", DEMO, *QUICK, *gate)
    assert done.returncode == code
    assert message in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.jsonl",), "nowhere.jsonl"),
        ((DEMO, "--modes", "iptable"), "'iptable' is not a mode; choose from iptables, ipvs"),
        ((DEMO, "--modes", ","), "no mode given"),
        ((DEMO, "--min-sync-period", "soon"), "is not a duration"),
        ((DEMO, "--json", "no/such/folder"), "no/such/folder: cannot be written: No such file"),
        (("README.md",), "README.md"),
    ],
)
def test_bad_input_is_named_once_and_exits_with_2(arguments, message):
    done = here.harness("compare", *arguments, "--kernel", "memory")
    assert done.returncode == 2
    assert done.stderr.count(message) == 1
    assert done.stdout == ""


def test_standard_input_serves_every_mode():
    with open(DEMO, "rb") as recording:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "compare", "-", *QUICK], stdin=recording, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert re.search(r"verified +yes +yes", done.stdout)


def test_an_interruption_ends_the_replay_too(tmp_path):
    command = ["compare", "recordings/10k-svc.jsonl", *QUICK, "--json", str(tmp_path / "c")]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child = None
    until = time.monotonic() + 60
    while child is None and time.monotonic() < until:
        child = next(iter(children(process.pid)), None)
    assert child is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    process.communicate()
    assert not os.path.exists(f"/proc/{child}")
    assert list(tmp_path.iterdir()) == []


def children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []


def views_of(*objects: dict, modes=MODES):
    events = [("ADDED", RESOURCES[each["kind"]], json.dumps(each).encode()) for each in objects]
    oracle: Oracle = oracle_of(events, SETTINGS)
    return {family: {mode: oracle.behaviour(family, mode) for mode in modes} for family in (4, 6)}


RESOURCES = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}
SETTINGS = Settings(cluster_cidr="10.0.0.0/8")
LOCAL = {"externalTrafficPolicy": "Local"}


@pytest.mark.parametrize(
    ("rule", "objects", "expected"),
    [
        ("CMP-03", [service()], {"iptables": "left alone", "ipvs": "refused", "nftables": "refused"}),
        ("CMP-04", [service()], {"iptables": "left alone", "nftables": "dropped"}),
        ("CMP-06", [service("NodePort", **LOCAL), slice_(end(E2, "n2"))], {"ipvs": "forwarded"}),
        (
            "CMP-08",
            [service("LoadBalancer", lb=[LB], loadBalancerSourceRanges=["10.0.0.0/8"])],
            {"iptables": "refused", "nftables": "dropped"},
        ),
        (
            "CMP-07",
            [service("NodePort", **LOCAL), slice_(end(E1, "n1"), end(E2, "n2"))],
            {"ipvs": "to fewer endpoints", "nftables": "pods, node: forwarded; others: to fewer endpoints"},
        ),
        ("CMP-11", [service("NodePort", sessionAffinity="ClientIP"), slice_(end(E1))], {"ipvs": "at one address"}),
        ("CMP-14", [service(), slice_(end(E1), end(E2))], {"nftables": "random", "userspace": "round robin"}),
        ("CMP-16", [service()], {"ipvs": "on kube-ipvs0", "userspace": "on lo", "nftables": "no"}),
    ],
)
def test_a_minimal_cluster_shows_each_difference(rule, objects, expected):
    found = [row for row in differences(views_of(node(), *objects), True) if row.id == rule]
    assert found
    assert found[0].by_mode.items() >= expected.items()


def test_a_single_mode_differs_from_nothing():
    assert differences(views_of(node(), service(), modes=("nftables",)), True) == []


def test_facts_are_about_modes_that_exist():
    assert {mode for fact in FACTS for mode in fact.by_mode} - {"*"} <= set(MODES)
