"""The load of a run: flows by sender, and the processes that drive them inside the lab.

Each process is `python -m loadtests.run SPEC OUT` in one of the lab's namespaces: it sends on schedule, independent of
answers, writes its log to OUT, and ends at the end of its standard input.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec

from chaos.load_options import LoadOptions
from harness.lab.control import LabClient, LabError
from harness.lab.dataplane.processes import prefer
from harness.places import vm
from loadtests.spec import Spec

START_SECONDS, STOP_SECONDS = 60.0, 30.0
LOOK_SECONDS = 0.05


class LoadProcess:
    """One running load."""

    def __init__(self, where: str, out: Path, process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
        self.where, self.out, self._process, self._timeout_seconds = where, out, process, timeout_seconds

    def await_begun(self) -> None:
        """Wait until it sends; LabError if it ended, or did not begin in time."""
        # A second is logged once every request of it was answered or has failed.
        deadline = time.monotonic() + START_SECONDS * vm.patience() + 2 * self._timeout_seconds
        while not (self.out.exists() and b'"second"' in self.out.read_bytes()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self.out.with_suffix(".log").read_bytes()[-1500:].decode(errors="replace").strip()
                raise LabError(f"the load in {self.where} did not begin: {words}")
            time.sleep(LOOK_SECONDS)

    def stop(self) -> int:
        """Let it finish its log; returns its exit code."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            return self._process.wait(STOP_SECONDS * vm.patience())
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def start_load(
    client: LabClient, options: LoadOptions, folder: Path, seed: int, web_ui: bool = False
) -> list[LoadProcess]:
    """Start one process per sender that has flows, and wait until all send; LabError if one does not.

    A sender's share of the arrivals is that of its flows.  With `web_ui` each serves locust's page on its loopback.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(map(len, options.flows.values()))
    status = client.status()
    started = []
    for number, (where, flows) in enumerate(sorted(options.flows.items())):
        if not flows:
            continue
        spec = Spec(
            name=where,
            where=where,
            flows=flows,
            arrivals_per_second=options.arrivals_per_second * len(flows) / total,
            shape=options.shape,
            timeout_seconds=options.timeout_seconds,
            seed=seed * 1000 + number,
            nodes={node.name: node.address for node in status.nodes},
            services=status.services,
            lab=str(client.folder),
        )
        command = _prepared(spec, folder) + (["--web-ui"] if web_ui else [])
        started.append(_start(client.inside(where, command), where, folder, options.timeout_seconds))
    for process in started:
        process.await_begun()
    return started


def start_here(spec: Spec, folder: Path) -> LoadProcess:
    """Start a load on this machine, outside any lab, and wait until it sends; LabError if it does not."""
    folder.mkdir(parents=True, exist_ok=True)
    process = _start(_prepared(spec, folder), spec.where, folder, spec.timeout_seconds)
    process.await_begun()
    return process


def _prepared(spec: Spec, folder: Path) -> list[str]:
    """Write the spec; returns the command that runs it."""
    path = folder / f"{spec.where}.spec.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(spec)))
    return [sys.executable, "-m", "loadtests.run", str(path), str(folder / f"{spec.where}.jsonl")]


def _start(command: list[str], where: str, folder: Path, timeout_seconds: float) -> LoadProcess:
    with open(folder / f"{where}.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    prefer(process.pid)
    return LoadProcess(where, folder / f"{where}.jsonl", process, timeout_seconds)
