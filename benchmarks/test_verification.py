"""The cost of verification: CPU time of a whole `harness replay`, tools and processes included, with and without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECORDING = Path(__file__).parents[1] / "recordings" / "10k-svc.jsonl"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["nftables", "userspace"])
def test_verified_against_unverified(benchmark, figure, mode):
    """The same replay twice, one after the other."""
    turns: list[tuple[dict, float]] = []
    benchmark.pedantic(lambda: turns.extend([_replayed(mode, "full"), _replayed(mode, "none")]), rounds=1)
    (full, verified), (none, bare) = turns
    assert full["verified"] is True and full["digest"] == none["digest"]
    figure(f"10k-svc, {mode}, verified", f"{verified:.1f} s of CPU", "", f"unverified {bare:.1f} s")
    figure("  against unverified", f"{verified / bare:.2f} x", "<= 4 x")
    figure("  checks of the kernel's state", str(full["checks"]))


def _replayed(mode: str, verify: str) -> tuple[dict, float]:
    """The result, and the CPU seconds of the whole command."""
    command = [sys.executable, "-m", "harness", "replay", str(RECORDING), "--mode", mode, "--verify", verify]
    before = os.times()
    done = subprocess.run([*command, "--json", "-"], capture_output=True, text=True, check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return json.loads(done.stdout), used
