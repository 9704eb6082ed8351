"""Repeats a gate and compares the verdicts: `python -m tests.chaos.gates --times 10 --busy 2 release-gate-short`.

Runs a gate so many times in each mode, one run after the other, beside so many busy loops; prints a table and exits
with 0 when every run's verdict was TRUE, with 1 otherwise.  Folders of runs that were not are kept.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

WORDS = {0: "TRUE", 1: "FALSE", 3: "UNKNOWN"}
LIMIT_SECONDS = 1200
GRACE_SECONDS = 60
BUSY = "while True: pass"


class Run(NamedTuple):
    """One run: its verdict, its duration, and the objectives that were not true."""

    mode: str
    word: str
    seconds: float
    lost: int | None
    why: str


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """That many processes, each using a whole CPU."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run_gate(gate: str, mode: str, folder: Path) -> Run:
    """One run, killed after its time limit; its folder is deleted if the verdict is true."""
    began = time.monotonic()
    command = [sys.executable, "-m", "harness", "chaos", "run", gate, "--mode", mode, "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            output, _ = process.communicate(timeout=LIMIT_SECONDS)
        except BaseException as error:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Run(mode, "no end", time.monotonic() - began, None, f"had not ended after {LIMIT_SECONDS} s")
    word, lost, why = _verdict(process.returncode, folder / "verdict.json", output.decode(errors="replace"))
    if word == "TRUE":
        shutil.rmtree(folder)
    return Run(mode, word, time.monotonic() - began, lost, why)


def _verdict(code: int, file: Path, output: str) -> tuple[str, int | None, str]:
    word = WORDS.get(code, f"exit {code}")
    if not file.exists():
        return word, None, (output.strip().splitlines() or [""])[-1]
    verdict = msgspec.json.decode(file.read_bytes())
    reasons = [f"{j['objective']}: {j['measured']}" for j in verdict["judgements"] if j["value"] is not True]
    return word, verdict["lost"], "; ".join([*reasons, *verdict["problems"]])


def table_row(number: int, run: Run) -> str:
    """A line of the table."""
    lost = "" if run.lost is None else f"{run.lost:,}"
    return f"{number:3}  {run.mode:9} {run.word:8} {run.seconds:5.0f} s {lost:>7}  {run.why}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("gate", default="release-gate-short")
@click.option("--times", default=10, show_default=True, type=click.IntRange(min=1), help="Runs in each mode.")
@click.option("--mode", "modes", multiple=True, default=("nftables", "iptables"), show_default=True)
@click.option("--busy", default=0, show_default=True, type=click.IntRange(min=0), help="Busy loops beside each run.")
@click.option(
    "--out", default=Path("build/gates"), show_default=True, type=click.Path(path_type=Path), help="For the runs."
)
def main(gate: str, times: int, modes: tuple[str, ...], busy: int, out: Path) -> None:
    """Run GATE, an experiment's name or file, again and again; exit code 0 when every verdict was TRUE."""
    runs: list[Run] = []
    click.echo(f"{gate}, {times} times in {', '.join(modes)}, beside {busy} busy loops")
    click.echo("  #  mode      verdict      took    lost  what was not true")
    with busy_loops(busy):
        for number in range(1, times + 1):
            for mode in modes:
                runs.append(run_gate(gate, mode, out / f"{number}-{mode}"))
                click.echo(table_row(number, runs[-1]))
    for mode in modes:
        there = Counter(run.word for run in runs if run.mode == mode)
        click.echo(f"{mode}: " + ", ".join(f"{count} {word}" for word, count in there.most_common()))
    sys.exit(0 if all(run.word == "TRUE" for run in runs) else 1)


if __name__ == "__main__":
    main()
