"""Start-up cost of a process: imports, as CPU time, compared with those that are indispensable.

Both sides are processes of their own and take turns, so that a busy machine is busy for both.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ROUNDS = 7
CASES = {
    "harness --help": ("import click", ["-m", "harness", "--help"], ""),
    "proxy-engine's imports": ("import kubernetes", ["-c", "import engine.server.runtime.run"], "<= 1 x"),
}


@pytest.mark.parametrize("name", CASES)
def test_start(benchmark, figure, name):
    """The least CPU time of several processes."""
    needed, arguments, target = CASES[name]
    turns: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: turns.append((_cpu(arguments), _cpu(["-c", needed]))), rounds=ROUNDS, warmup_rounds=1)
    ours, reference = (min(side) for side in zip(*turns, strict=True))
    figure(name, f"{ours:.2f} s of CPU", "", f"`{needed}` {reference:.2f} s")
    figure("  against it", f"{ours / reference:.2f} x", target)


def _cpu(arguments: list[str]) -> float:
    before = os.times()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
