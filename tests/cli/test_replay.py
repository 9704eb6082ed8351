"""`harness replay` as users run it: gates, exit codes, signals, quiet pipes, documented JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import here
from tests.waiting import until

DEMO = "recordings/demo.jsonl"
MEMORY = ("--kernel", "memory")
WHOLE = ("change.clocks", "change.by_kind", "change.not_counted", "verification.checked", "verification.packets")


def harness(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness", *arguments], capture_output=True, text=True, **more)


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("result") / "r.json"
    assert harness("replay", DEMO, *MEMORY, "--json", str(path)).returncode == 0
    return json.loads(path.read_text())


def leaves(value: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, inner in value.items():
        name = f"{prefix}{key}"
        nested = isinstance(inner, dict) and name not in WHOLE and not name.endswith("_seconds")
        found |= leaves(inner, f"{name}.") if nested else {name}
    return found


def test_every_field_of_the_result_is_documented_and_there(result):
    page = Path("docs/replay-result.md").read_text().split("## Exit codes")[0]
    documented = {name for row in re.findall(r"^\| (`.*?) \|", page, re.M) for name in re.findall(r"`([^`]+)`", row)}
    tools = {f"kernel.{tool}" for tool in ("nft", "ipset", "ipvsadm", "iptables", "iproute2")}
    optional = {"kernel.release", "kernel.reason", "kernel.machine", *tools}
    assert documented - optional == leaves(result)


@pytest.mark.parametrize(
    ("gate", "code", "message"),
    [
        (["--expect-digest", "0" * 64], 3, "gate: digest"),
        (["--max-p99", "0.0001"], 4, "gate: --max-p99 0.0001 s exceeded"),
        (["--max-initial", "0.000001"], 4, "gate: --max-initial 1e-06 s exceeded"),
        (["--max-p99", "60", "--max-initial", "60"], 0, ""),
        (["--repeat", "2"], 0, ""),
    ],
)
def test_gates_have_exit_codes_of_their_own(gate, code, message):
    done = harness("replay", DEMO, *MEMORY, *gate)
    assert done.returncode == code
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((DEMO, "--speed", "fast"), "'fast' is neither max nor a factor above 0"),
        ((DEMO, "--speed", "0"), "'0' is neither max nor a factor above 0"),
        ((DEMO, "--min-sync-period", "soon"), "'soon' is not a duration such as 1s"),
        ((DEMO, "--from", "x1"), "'x1' is neither a seq such as 120 nor a time such as 90s"),
        ((DEMO, "--mode", "magic"), "Invalid value for '--mode'"),
        ((DEMO, "--iptables-variant", "nft"), "--iptables-variant applies only to --mode iptables in a real kernel"),
        ((DEMO, "--mode", "iptables", "--iptables-variant", "old"), "Invalid value for '--iptables-variant'"),
        (("-", "--repeat", "2"), "standard input can be read only once"),
        ((DEMO, "--cluster-cidr", "10.0.0.0/99"), "10.0.0.0/99"),
        ((DEMO, "--json", "/nonexistent/folder/r.json"), "/nonexistent/folder"),
    ],
)
def test_senseless_options_are_refused_with_the_way_out(arguments, message):
    done = here.harness("replay", *arguments, *MEMORY)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_window_limits_the_measurement(tmp_path):
    def replayed(*window):
        path = tmp_path / "w.json"
        done = harness("replay", DEMO, *MEMORY, "--json", str(path), *window)
        assert done.returncode == (6 if window == ("--until", "3") else 0), "three Nodes alone: nothing to verify"
        return json.loads(path.read_text())

    whole, late, early = replayed(), replayed("--from", "60s"), replayed("--until", "60s")
    assert 0 < late["change"]["count"] < whole["change"]["count"]
    assert 0 < early["change"]["count"] < whole["change"]["count"]
    assert late["recording"]["sha256"] == whole["recording"]["sha256"] == early["recording"]["sha256"]
    assert replayed("--from", "100")["initial"] and replayed("--until", "3")["change"]["count"] == 0


def test_a_pipe_gets_no_progress_and_json_goes_to_stdout_alone():
    done = harness("replay", DEMO, *MEMORY, "--json", "-")
    assert json.loads(done.stdout)["verified"] is True
    assert "\x1b" not in done.stdout + done.stderr
    assert "nftables mode" in done.stderr


def test_the_first_line_says_that_there_was_no_kernel():
    assert "in memory, NO KERNEL" in harness("replay", DEMO, *MEMORY).stdout.splitlines()[0]


def test_the_first_line_says_what_ran_where(kernel_namespaces):
    first = harness("replay", DEMO, "--until", "0s").stdout.splitlines()[0]
    assert re.match(r"nftables mode, throwaway namespace, Linux \S+, nft [\d.]+, minSyncPeriod 1 s, node", first)


def namespaces_of(parent: int) -> set[str]:
    """Network namespaces of the descendants of a process, and of nobody else."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and _descends(int(entry.name), parent):
                found.add(os.readlink(entry / "ns/net"))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return pid == ancestor


def holders(namespaces: set[str]) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "ns/net") in namespaces:
                found.append(entry.name)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_leaves_no_namespace_and_no_process(kernel_namespaces, number, code):
    own = os.readlink("/proc/self/ns/net")
    command = [sys.executable, "-m", "harness", "replay", DEMO, "--speed", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        until(lambda: namespaces_of(child.pid) - {own})
        made = namespaces_of(child.pid) - {own}
        child.send_signal(number)
        assert child.wait(60) == code
        until(lambda: not holders(made))
        errors = child.stderr.read()
        assert b"Traceback" not in errors
    finally:
        child.kill()
        child.communicate()
