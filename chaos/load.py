"""The load of a run: which flows from where, and the processes that drive them inside the lab.

Each process is `python -m loadtests.run SPEC OUT` in one of the lab's namespaces: it sends by the clock, whatever
the answers, writes its log to OUT, and ends when its standard input does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from harness.lab.control import LabClient, LabError
from harness.lab.topology import CLIENT

START_SECONDS, STOP_SECONDS = 60.0, 30.0
LOOK_SECONDS = 0.05

EXTERNAL = ("nodeport-http", "nodeport-http-keepalive", "nodeport-tcp", "nodeport-udp", "balancer-http", "sticky-http")
INTERNAL = ("clusterip-http", "clusterip-http-keepalive", "clusterip-tcp", "clusterip-udp")
"""Flows by how they reach the Services: see `loadtests.flows`."""


class LoadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`arrivals_per_second` over all places; `flows` by place (`client`, `caller-N`); `shape` as `loadtests.shapes`.

    `warm_up_seconds` of load come before the first fault, `cool_down_seconds` after the last; `timeout_seconds` is a
    request's.
    """

    arrivals_per_second: float = 200.0
    flows: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: {CLIENT: EXTERNAL, "caller-1": INTERNAL})
    shape: dict[str, Any] = {}
    warm_up_seconds: float = 3.0
    cool_down_seconds: float = 2.0
    timeout_seconds: float = 1.0


class LoadProcess:
    """One running load."""

    def __init__(self, name: str, where: str, out: Path, process: subprocess.Popen[bytes]) -> None:
        self.name, self.where, self.out, self._process = name, where, out, process

    def await_begun(self) -> None:
        """Wait until it sends; LabError when it ended, or did not begin in time."""
        deadline = time.monotonic() + START_SECONDS
        while not (self.out.exists() and b'"second"' in self.out.read_bytes()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self.out.with_suffix(".log").read_bytes()[-1500:].decode(errors="replace").strip()
                raise LabError(f"the load in {self.where} did not begin: {words}")
            time.sleep(LOOK_SECONDS)

    def stop(self) -> int:
        """Let it finish its log; its exit code."""
        self._process.stdin.close()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def start_load(
    client: LabClient, options: LoadOptions, folder: Path, seed: int, web_ui: bool = False
) -> list[LoadProcess]:
    """Start a process for each place that has flows, and wait until all send; LabError when one does not.

    A place's share of the arrivals is that of its flows.  With `web_ui` each serves locust's page on its loopback.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(map(len, options.flows.values()))
    status = client.call("status")
    started = []
    for number, (where, flows) in enumerate(sorted(options.flows.items())):
        if not flows:
            continue
        spec = {
            "name": where,
            "where": where,
            "flows": flows,
            "arrivals_per_second": options.arrivals_per_second * len(flows) / total,
            "shape": options.shape,
            "timeout_seconds": options.timeout_seconds,
            "seed": seed * 1000 + number,
            "nodes": {node["name"]: node["address"] for node in status["nodes"]},
            "services": status["services"],
            "lab": str(client.folder),
        }
        command = _prepared(where, spec, folder) + (["--web-ui"] if web_ui else [])
        started.append(_start(client.inside(where, command), where, folder))
    for process in started:
        process.await_begun()
    return started


def start_here(spec: dict[str, Any], folder: Path) -> LoadProcess:
    """Start a load on this machine, outside any lab, and wait until it sends; LabError when it does not."""
    folder.mkdir(parents=True, exist_ok=True)
    process = _start(_prepared(spec["where"], spec, folder), spec["where"], folder)
    process.await_begun()
    return process


def _prepared(where: str, spec: dict[str, Any], folder: Path) -> list[str]:
    """Write the spec down; the command that carries it out."""
    path = folder / f"{where}.spec.json"
    path.write_text(json.dumps(spec, indent=2))
    return [sys.executable, "-m", "loadtests.run", str(path), str(folder / f"{where}.jsonl")]


def _start(command: list[str], where: str, folder: Path) -> LoadProcess:
    with open(folder / f"{where}.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    return LoadProcess(where, where, folder / f"{where}.jsonl", process)
