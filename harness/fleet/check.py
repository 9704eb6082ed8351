"""A sample of nodes replayed one by one by `harness replay`, in memory and in real kernels, beside the views."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.addresses import format_network
from harness.failure import Failure
from harness.fleet.stage import Settings

REPLAY_SECONDS = 900.0
"""Longest time for one replay."""


class Sampled(NamedTuple):
    """One node: the digest of its view, and what its own replay in `kernel` found; `verified` as in a replay.

    Seconds are measured by that replay: its initial convergence, and the p99 of compute and apply, None of no change.
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
        """Whether the view is that of the replay, and the kernel did what the events say, as far as was checked."""
        return self.view_digest == self.replay_digest and self.verified is not False


class Replays:
    """Replays of some nodes, one after the other, in processes of their own beside this one."""

    def __init__(self, source: str, settings: Settings, period: int, until: str | None) -> None:
        self._settings = settings
        options = ["--mode", settings.mode, "--min-sync-period", f"{period}ns"]
        if until:
            options += ["--until", until]
        if settings.pod_networks:
            options += ["--cluster-cidr", ",".join(map(format_network, settings.pod_networks))]
        major, minor = settings.version
        self._options = [source, *options, "--kube-version", f"{major}.{minor}"]

    def run(self, node: str, kernel: str) -> dict[str, Any]:
        """The JSON result of one replay; Failure with its last words if it gives none."""
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
    """A sample that is the same in every run: `count` of the nodes, evenly spaced."""
    count = min(count, len(nodes))
    return [nodes[n * len(nodes) // count] for n in range(count)]


def sampled(node: str, kernel: str, view_digest: str, result: dict[str, Any]) -> Sampled:
    """A replay's result beside the view's digest."""
    work = result["change"]["work_seconds"]
    return Sampled(
        node, kernel, view_digest, result["digest"], result["verified"], len(result["differences"]),
        result["initial"]["seconds"], work and work["p99"],
    )  # fmt: skip
