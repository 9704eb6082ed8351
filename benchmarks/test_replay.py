"""`harness replay recordings/10k-svc.jsonl`, the whole command by the clock, against the same without verification.

The unverified command is the reference: start, reading, all syncs and the end.  What it takes less is verification.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

RECORDING = Path(__file__).parents[1] / "recordings" / "10k-svc.jsonl"
ROUNDS = 3


def test_whole_command(benchmark, figure):
    """Both in turns, as a user starts them; the fastest of several rounds of each."""
    verified: list[tuple[float, dict]] = []
    bare: list[tuple[float, dict]] = []

    def turn() -> None:
        verified.append(_replayed())
        bare.append(_replayed("--no-verify"))

    benchmark.pedantic(turn, rounds=ROUNDS)
    (whole, result), (reference, unverified) = (min(runs, key=lambda run: run[0]) for runs in (verified, bare))
    assert result["verified"] is True and result["digest"] == unverified["digest"]
    first = unverified["initial"]["seconds"]
    figure("harness replay 10k-svc, nftables, verified", f"{whole:.1f} s", "", f"{result['checks']} checks")
    figure("  against unverified", f"{whole / reference:.2f} x", "", f"unverified {reference:.2f} s")
    figure("  unverified against its first sync", f"{reference / first:.2f} x", "", f"file to live {first:.2f} s")


def _replayed(*options: str) -> tuple[float, dict]:
    """Seconds of the whole command by the clock, and its result."""
    command = [sys.executable, "-m", "harness", "replay", str(RECORDING), "--json", "-", *options]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, json.loads(done.stdout)
