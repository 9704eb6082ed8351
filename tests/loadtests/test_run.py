"""A real load, locust and all, against a real server on loopback whose stalls are known."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import harness.lab.dataplane.pod_server as pod_server

pytestmark = pytest.mark.xdist_group("gate")

RATE, STALL_SECONDS = 60, 1.5


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


@contextmanager
def served(folder: Path):
    """A pod's application on free ports of loopback."""
    ports = free_ports(3)
    (folder / "health").write_text("ok")
    words = [sys.executable, "-I", "-S", pod_server.__file__, "web-1", "node-1", str(folder), "0", *map(str, ports)]
    process = subprocess.Popen(words)
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", ports[1])):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process, ports
    finally:
        process.kill()
        process.wait()


def load(folder: Path, ports: list[int], flows: list[str], during=lambda *_: None, **more) -> list[dict]:
    """The log of a load through one node on loopback, which sends for as long as `during` takes."""
    named = {name: {"port": port, "node_port": port} for name, port in zip(("http", "tcp", "udp"), ports, strict=True)}
    spec = {
        "name": "t", "flows": flows, "nodes": {"node-1": "127.0.0.1"}, "arrivals_per_second": RATE,
        "timeout_seconds": 4, **more,
        "services": [{"name": "web", "cluster_ip": "127.0.0.1", "balancer": "127.0.0.1", "ports": named}],
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))
    out = folder / "load.jsonl"
    command = [sys.executable, "-m", "loadtests.run", str(folder / "spec.json"), str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not (out.exists() and len(out.read_text().splitlines()) > 1):
            assert process.poll() is None, process.stdout.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        during(process) if during.__code__.co_argcount else during()
        words, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, words.decode()
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_stall_of_the_server_is_in_every_latency_it_made(tmp_path):
    """No coordinated omission: what was due during the stall waits from when it was due, all of it."""
    with served(tmp_path) as (process, ports):

        def stall() -> None:
            time.sleep(1)
            process.send_signal(signal.SIGSTOP)
            time.sleep(STALL_SECONDS)
            process.send_signal(signal.SIGCONT)
            time.sleep(1)

        rows = load(tmp_path, ports, ["nodeport-http"], stall)
    (flow,) = [row for row in rows if row["kind"] == "flow"]
    assert flow["failed"] == 0
    assert flow["max_us"] >= STALL_SECONDS * 0.9e6
    # Of an even stream, half of what was due in the stall waited longer than half of it: a closed loop shows one.
    assert flow["p90_us"] > 0.1e6
    sent = [row["sent"] for row in rows if row["kind"] == "second"]
    assert sum(sent[1:-1]) >= RATE * len(sent[1:-1]) * 0.6, "the stall must not hold requests back"


def test_every_kind_of_request_is_answered_and_counted(tmp_path):
    flows = [
        "nodeport-http",
        "nodeport-http-keepalive",
        "nodeport-tcp",
        "nodeport-udp",
        "balancer-http",
        "clusterip-udp",
    ]
    with served(tmp_path) as (_, ports):
        rows = load(tmp_path, ports, flows, lambda: time.sleep(2))
    summaries = {row["flow"]: row for row in rows if row["kind"] == "flow"}
    assert summaries.keys() == set(flows)
    for summary in summaries.values():
        assert summary["answered"] == summary["sent"] > 5, summary
        assert summary["endpoints"] == {"web-1 node-1": summary["sent"]}
    assert rows[0]["kind"] == "header"
    assert rows[-1]["kind"] == "end"


def test_refused_requests_are_failures_with_their_cause(tmp_path):
    rows = load(tmp_path, free_ports(3), ["nodeport-http", "nodeport-udp"], seconds=3)
    lost = [row for row in rows if row["kind"] == "failure"]
    assert lost
    assert {row["cause"] for row in lost} == {"refused"}
    assert {row["node"] for row in lost} == {"node-1"}
    assert sum(row["failed"] for row in rows if row["kind"] == "flow") == len(lost)


def test_a_fractional_rate_is_sent_exactly(tmp_path):
    with served(tmp_path) as (_, ports):
        rows = load(tmp_path, ports, ["nodeport-tcp"], lambda: time.sleep(5), arrivals_per_second=6)
    sent = [row["sent"] for row in rows if row["kind"] == "second"][1:-1]
    assert len(sent) >= 3
    assert all(5 <= count <= 7 for count in sent), sent


def test_a_client_that_keeps_its_port_is_answered(tmp_path):
    with served(tmp_path) as (_, ports):
        rows = load(tmp_path, ports, ["nodeport-udp-kept"], lambda: time.sleep(2))
    (flow,) = [row for row in rows if row["kind"] == "flow"]
    assert flow["answered"] == flow["sent"] > 20
    assert flow["due"] == flow["sent"] + flow["not_sent"]


def test_requests_that_a_stalled_load_never_sent_are_counted(tmp_path):
    """Stopped until its end: what was due meanwhile is late, or not sent; nothing vanishes."""
    with served(tmp_path) as (_, ports):

        def stall(process) -> None:
            time.sleep(1.5)
            process.send_signal(signal.SIGSTOP)
            time.sleep(3)
            process.send_signal(signal.SIGCONT)

        rows = load(tmp_path, ports, ["nodeport-tcp"], stall)
    (flow,) = [row for row in rows if row["kind"] == "flow"]
    assert flow["due"] == flow["sent"] + flow["not_sent"]
    late = sum(row["late"] for row in rows if row["kind"] == "second")
    assert late + flow["not_sent"] >= RATE * 2


def test_a_bad_spec_is_an_error_with_a_reason(tmp_path):
    (tmp_path / "spec.json").write_text("{}")
    words = [sys.executable, "-m", "loadtests.run", str(tmp_path / "spec.json"), str(tmp_path / "out.jsonl")]
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1
    assert b"spec.json" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
