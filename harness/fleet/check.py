"""Replays a sample of nodes one by one with `harness replay`, in memory and in real kernels, and compares the views."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.addresses import format_network
from harness.failure import Failure
from harness.fleet.stage import FleetSettings

REPLAY_SECONDS = 900.0
"""Time limit of one replay."""


class Sampled(NamedTuple):
    """One node: the digest of its view, and the result of its replay in `kernel`; `verified` as in a replay.

    Seconds are measured by that replay: its initial convergence, and the p99 of compute and apply, None without
    changes.
    """

    node: str
    kernel: str
    view_digest: str
    replay_digest: str
    verified: bool | str
    differences: int
    initial_seconds: float
    work_p99_seconds: float | None

    @property
    def agrees(self) -> bool:
        """Whether view and replay are equal, and the kernel's state was correct as far as it was checked."""
        return self.view_digest == self.replay_digest and self.verified is not False


class Replays:
    """Replays some nodes one after another, each in a separate process."""

    def __init__(self, source: str, settings: FleetSettings, period: int, until: str | None) -> None:
        self._settings = settings
        options = ["--mode", settings.mode, "--min-sync-period", f"{period}ns"]
        if until:
            options += ["--until", until]
        if settings.pod_networks:
            options += ["--cluster-cidr", ",".join(map(format_network, settings.pod_networks))]
        major, minor = settings.version
        self._options = [source, *options, "--kube-version", f"{major}.{minor}"]

    def run(self, node: str, kernel: str) -> dict[str, Any]:
        """The JSON result of one replay; Failure with its last output if there is none."""
        verify = ["--verify", "none"] if kernel == "memory" else []
        command = [sys.executable, "-m", "harness", "replay", *self._options, "--node", node, "--kernel", kernel]
        try:
            done = subprocess.run(
                [*command, *verify, "--json", "-"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=REPLAY_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failure(f"the replay of {node} did not end within {REPLAY_SECONDS:g} s") from None
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except json.JSONDecodeError:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise Failure(f"the replay of {node} in {kernel} failed: {said.removeprefix('error: ')}") from None
        return found


def spaced(nodes: Sequence[str], count: int) -> list[str]:
    """A deterministic sample: `count` of the nodes, evenly spaced."""
    count = min(count, len(nodes))
    return [nodes[n * len(nodes) // count] for n in range(count)]


def sampled(node: str, kernel: str, view_digest: str, result: dict[str, Any]) -> Sampled:
    """A replay's result with the view's digest."""
    work = result["change"]["work_seconds"]
    return Sampled(
        node, kernel, view_digest, result["digest"], result["verified"], len(result["differences"]),
        result["initial"]["seconds"], work and work["p99"],
    )  # fmt: skip
