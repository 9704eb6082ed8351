"""Whether the gate of `harness bench` can be trusted: it must see what is slower, and nothing else.

    python -m benchmarks.gate_proof slowed [--times 10] [--percent 20]
    python -m benchmarks.gate_proof unchanged [--times 10]

`slowed`: a copy of the engine in which every observed event and every sync takes PERCENT longer must be red each time,
with a limit of 10 %.  `unchanged`: a copy of the same engine, beside two processes that do nothing but work, must never
be red, neither by its baseline nor by the history of these runs.  Each takes 5 to 20 minutes on an idle machine, and
ends with 1 if it was not so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RED, FINE = 7, 0
LIMIT = "10"
RUN_SECONDS = 1800
SLOWED_ROWS = ("nftables-1000x10-steady-engine",)
UNCHANGED_ROWS = (*SLOWED_ROWS, "nftables-1000x10-flap-storm-engine")
SLOWER = '''

def _slower(function):
    """PERCENT % slower: works on for as much longer as it worked."""

    def slow(*arguments):
        began = time.process_time()
        result = function(*arguments)
        until = time.process_time() + (time.process_time() - began) * PERCENT / 100
        while time.process_time() < until:
            pass
        return result

    return slow


import time

Proxier.sync = _slower(Proxier.sync)
ClusterState.observe = _slower(ClusterState.observe)
'''


def copy(folder: Path, percent: float) -> Path:
    """A checkout's packages, slowed by this much."""
    for name in ("engine", "harness"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    if percent:
        with open(folder / "engine" / "proxier.py", "a") as module:
            module.write(SLOWER.replace("PERCENT", str(percent)))
    return folder


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that only work."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def bench(folder: Path, rows: tuple[str, ...], *more: str) -> tuple[int, str]:
    """Exit code of one run of the candidate against the baseline in this folder, and what it says of the gate."""
    command = [sys.executable, "-P", "-m", "harness", "bench", "--fresh", "--fail-on", LIMIT]
    command += [
        *more,
        "--baseline",
        str(folder / "baseline"),
        "--out",
        str(folder / "bench"),
        *(word for row in rows for word in ("--rows", row)),
    ]
    environment = os.environ | {"PYTHONPATH": str(folder / "candidate"), "HARNESS_PROGRESS": "none"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith(("SLOWER", "unclear", "gate"))]
    return done.returncode, "\n".join(f"    {line}" for line in said) or done.stderr


def slowed(folder: Path, times: int, percent: float) -> bool:
    """Red every time."""
    copy(folder / "candidate", percent)
    return _all_end_with(RED, times, lambda: bench(folder, SLOWED_ROWS))


def unchanged(folder: Path, times: int) -> bool:
    """Never red."""
    copy(folder / "candidate", 0)
    history = str(folder / "history.jsonl")
    with busy(2):
        return _all_end_with(FINE, times, lambda: bench(folder, UNCHANGED_ROWS, "--history", history))


def _all_end_with(code: int, times: int, run) -> bool:
    codes = []
    for number in range(1, times + 1):
        found, said = run()
        codes.append(found)
        print(f"{number} of {times}: exit code {found}\n{said}", flush=True)
    print(f"{codes.count(code)} of {times} ended with {code}")
    return codes.count(code) == times


def main() -> None:
    """Exits with 0 if the gate was right every time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_proof")
    parser.add_argument("what", choices=("slowed", "unchanged"))
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--percent", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gate-proof-") as folder:
        copy(Path(folder, "baseline"), 0)
        fine = (
            slowed(Path(folder), options.times, options.percent)
            if options.what == "slowed"
            else unchanged(Path(folder), options.times)
        )
    sys.exit(not fine)


if __name__ == "__main__":
    main()
