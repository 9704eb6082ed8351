"""Replays a sample of nodes one by one with `harness replay`, in memory and in real kernels, and compares the views."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import msgspec

from engine.addresses import format_network
from harness.failure import Failure
from harness.fleet.result import SampledNode
from harness.fleet.stage import FleetSettings
from harness.replay.result import ReplayResult

REPLAY_SECONDS = 900.0
"""Time limit of one replay."""


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

    def run(self, node: str, kernel: str) -> ReplayResult:
        """The result of one replay; Failure with its last output if there is none."""
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
            return msgspec.json.decode(done.stdout, type=ReplayResult)
        except msgspec.MsgspecError:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise Failure(f"the replay of {node} in {kernel} failed: {said.removeprefix('error: ')}") from None


def spaced(nodes: Sequence[str], count: int) -> list[str]:
    """A deterministic sample: `count` of the nodes, evenly spaced."""
    count = min(count, len(nodes))
    return [nodes[n * len(nodes) // count] for n in range(count)]


def sampled(node: str, kernel: str, view_digest: str, result: ReplayResult) -> SampledNode:
    """A replay's result with the view's digest."""
    work = result.change.work_seconds
    return SampledNode(
        node,
        kernel,
        view_digest,
        result.digest,
        result.verified,
        len(result.differences),
        result.initial.seconds,
        work["p99"] if work else None,
        agrees=view_digest == result.digest and result.verified is not False,
    )
