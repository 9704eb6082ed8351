"""`harness compare` of 10,000 Services in three modes, verified: the whole command, and its syncs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECORDING = Path(__file__).parents[1] / "recordings" / "10k-svc.jsonl"
MODES = ("nftables", "iptables", "userspace")


@pytest.mark.timeout(3600)
def test_three_modes_verified(benchmark, figure):
    """One command, as a user starts it; and the syncs of each mode."""
    turns: list[tuple[float, float, dict]] = []
    benchmark.pedantic(lambda: turns.append(_compared()), rounds=1)
    ((seconds, cpu, result),) = turns
    figure(f"compare 10k-svc, {', '.join(MODES)}", f"{seconds:.0f} s", "<= 90 s", f"CPU {cpu:.0f} s")
    for row in result["modes"]:
        found = row["result"]
        assert found["verified"] is True
        p50, p99 = (found["change"]["work_seconds"][name] * 1e3 for name in ("p50", "p99"))
        figure(f"  {row['mode']}: syncs; a change's work, p50 and p99", f"{found['syncs']}; {p50:.1f}, {p99:.1f} ms")


def _compared() -> tuple[float, float, dict]:
    """Seconds by the clock and of CPU, and the result."""
    command = [sys.executable, "-m", "harness", "compare", str(RECORDING), "--modes", ",".join(MODES)]
    command += ["--iptables-variant", "nft", "-o", "json"]
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used, json.loads(done.stdout)
