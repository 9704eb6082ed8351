"""Every command under adverse conditions: one line with the problem, a documented exit code, no partial files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness.cli import main
from tests.firstday.account import ROOT
from tests.waiting import until

DEMO = str(ROOT / "recordings/demo.jsonl")
HARNESS = [sys.executable, "-m", "harness"]
PRINTING = {
    "bench": ["bench", "--list"],
    "chaos": ["chaos", "list"],
    "compare": ["compare", DEMO, "--kube-versions", "1.30,1.37"],
    "completion": ["completion", "bash"],
    "conformance": ["conformance", "--list"],
    "diff": ["diff", DEMO, DEMO],
    "doctor": ["doctor"],
    "fleet": ["fleet", DEMO, "--workers", "0", "--nodes", "1"],
    "inspect": ["inspect", DEMO],
    "plan": ["plan", DEMO, "--mode", "nftables"],
    "replay": ["replay", DEMO, "--kernel", "memory", "--until", "60"],
    "trace": ["trace", DEMO, "--from", "external:203.0.113.7", "--to", "svc:contingency-team/users-gateway:http"],
    "tune": ["tune", DEMO, "--periods", "1s"],
    "validate": ["validate", DEMO],
}
WRITING = {
    "copy": ["copy", DEMO, "out.jsonl"],
    "fleet": ["fleet", DEMO, "--workers", "0", "--nodes", "1", "--json", "out.json"],
    "import": ["import", str(ROOT / "tests/docs/dump.json"), "out.jsonl"],
    "redact": ["redact", DEMO, "out.jsonl"],
    "replay": ["replay", DEMO, "--kernel", "memory", "--json", "out.json"],
    "shrink": ["shrink", DEMO, "out.jsonl", "--while", "grep ClientIP {source}", "--exit-code", "0"],
    "synth": ["synth", "out.jsonl", "--services", "300"],
    "tune": ["tune", DEMO, "--periods", "1s", "--json", "out.json"],
}
RUNNING = {"explore", "kafka", "lab", "record", "serve"}
"""Those that go on until they are stopped: their own folders of tests."""


def run(command: list[str], folder: Path, script: str = 'exec "$@"', **variables: str):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HARNESS_PROGRESS": "none", **variables}
    return subprocess.run(
        ["bash", "-c", script, "bash", *HARNESS, *command], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_every_command_is_covered():
    assert set(PRINTING) | set(WRITING) | RUNNING == set(main.list_commands(click.Context(main)))


@pytest.mark.parametrize("name", PRINTING)
def test_standard_output_that_is_full_is_one_line(tmp_path, name):
    done = run(PRINTING[name], tmp_path, 'exec "$@" >/dev/full')
    assert (done.returncode, done.stderr) == (2, "error: output: No space left on device\n")


@pytest.mark.parametrize("name", PRINTING)
def test_closed_streams_few_descriptors_and_no_home_are_handled(kernel_namespaces, tmp_path, name):
    done = run(PRINTING[name], tmp_path, 'ulimit -n 64; exec "$@" <&- >&- 2>&-')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk_is_one_line_and_leaves_nothing(kernel_namespaces, tmp_path, name):
    full = 'mount -t tmpfs -o size=8k tmpfs . && cd "$PWD" && head -c 8192 /dev/zero >.full'
    full += '; "$@"; code=$?; ls >&2; exit $code'
    script = f"exec unshare -Urm bash -c '{full}' bash \"$@\""
    done = run(WRITING[name], tmp_path, script)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "No space left on device" in done.stderr, done.stderr


@pytest.mark.parametrize("name", WRITING)
def test_an_unwritable_folder_is_one_line(kernel_namespaces, tmp_path, name):
    barred = 'mount -t tmpfs -o ro tmpfs . && cd "$PWD" && exec "$@"'
    done = run(WRITING[name], tmp_path, f"exec unshare -Urm bash -c '{barred}' bash \"$@\"")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "out.json" in done.stderr and "Read-only" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_an_interrupted_command_leaves_nothing_half_written(tmp_path, number, code):
    command = [*HARNESS, "synth", "out.jsonl", "--services", "100000", "--endpoints", "10"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    until(lambda: list(tmp_path.iterdir()) or process.poll() is not None)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in said, said
    assert list(tmp_path.iterdir()) == []
