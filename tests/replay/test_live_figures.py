"""`replay --follow` while it goes on: figures of the last minute, and metrics."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from harness.replay.rolling import ChangeSample, Rolling
from tests.waiting import until

DEMO = Path("recordings/demo.jsonl")
FOLLOW = [sys.executable, "-m", "harness", "replay", "--follow", "--kernel", "memory", "--verify", "none"]


def test_figures_are_of_the_last_minute():
    now = [0.0]
    rolling = Rolling(lambda: now[0])
    assert rolling.line() == "last 60 s: 0 changes"
    rolling.add(ChangeSample(9.0, 9.0, 9.0))
    now[0] = 30.0
    for n in range(1, 101):
        rolling.add(ChangeSample(n / 1e3, 0.0, 0.5))
    now[0] = 61.0
    assert rolling.line() == (
        "last 60 s: 100 changes, compute + apply p50 50.00 ms, p99 99.00 ms, queue wait p99 0.00 ms,"
        " convergence p99 500.00 ms"
    )


def metric(port: str, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        found = re.search(rf'^{name}{{mode="nftables"}} (\S+)$', answer.read().decode(), re.M)
    return float(found[1]) if found else 0.0


def test_metrics_grow_with_the_source(tmp_path):
    lines = DEMO.read_bytes().splitlines(keepends=True)
    growing = tmp_path / "growing.jsonl"
    growing.write_bytes(b"".join(lines[:200]))
    process = subprocess.Popen(
        [*FOLLOW, str(growing), "--metrics-port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        port = re.search(r":(\d+)/metrics", process.stderr.readline())[1]
        until(lambda: metric(port, "harness_replay_work_seconds_count") > 0)
        before = metric(port, "harness_replay_events")
        with growing.open("ab") as out:
            out.write(b"".join(lines[200:]))
        until(lambda: metric(port, "harness_replay_events") > before)
        assert metric(port, "harness_replay_differences") == 0
        process.send_signal(signal.SIGTERM)
        page, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and "compute + apply" in page


def test_a_port_that_is_taken_and_one_without_follow_are_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [*FOLLOW, str(DEMO), "--metrics-port", str(taken.getsockname()[1])], capture_output=True, text=True
        )
    assert done.returncode == 2 and "Address already in use" in done.stderr and len(done.stderr.splitlines()) == 1
    command = [word for word in FOLLOW if word != "--follow"]
    done = subprocess.run([*command, str(DEMO), "--metrics-port", "0"], capture_output=True, text=True)
    assert done.returncode == 2 and "--metrics-port needs --follow" in done.stderr
