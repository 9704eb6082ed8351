"""A whole fleet's views against one view, and two workers against one: ratios within one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.log import write_recording
from harness.log.synth import SynthOptions, generate

LARGE = Path(__file__).resolve().parents[1] / "recordings" / "10k-svc.jsonl"
TIMES_OF_ONE, SECONDS, TIMES_OF_TWO, BYTES = 20, 120, 1.7, 4 << 30


def fleet(path: Path, *options: str) -> tuple[float, dict]:
    """Seconds of a whole command, and its result; its sample has the digest of its own replay."""
    command = [sys.executable, "-m", "harness", "fleet", str(path), "--json", "-", *options]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began, json.loads(done.stdout)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """1,000 Services on 5,000 nodes."""
    path = tmp_path_factory.mktemp("fleet") / "thousand.jsonl"
    write_recording(path, *generate(SynthOptions(1000, nodes=5000)))
    return path


@pytest.mark.timeout(1800)
def test_a_thousand_views_against_one(benchmark, figure):
    """Its 500 nodes, as recorded and under another minSyncPeriod."""
    command = [sys.executable, "-m", "harness", "replay", str(LARGE), "--kernel", "memory", "--no-verify"]
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    one = time.perf_counter() - began
    options = ("--what-if", "minSyncPeriod=5s")
    seconds, result = benchmark.pedantic(lambda: fleet(LARGE, *options), rounds=1)
    views, peak = result["views"] * len(result["columns"]), result["computed_by"]["peak_rss_bytes"]
    assert views == 1000 and all(each["agrees"] for each in result["samples"])
    figure(f"{views:,} views of 10,000 Services", f"{seconds / one:.1f} x one view", f"{TIMES_OF_ONE} x")
    figure("  memory of the largest processes", f"{peak >> 20:,} MiB", f"{BYTES >> 20:,} MiB")
    assert seconds <= TIMES_OF_ONE * one and peak < BYTES


@pytest.mark.timeout(1800)
def test_five_thousand_views_of_a_thousand_services(benchmark, thousand, figure):
    seconds, result = benchmark.pedantic(lambda: fleet(thousand), rounds=1)
    assert result["views"] == 5000 and all(each["agrees"] for each in result["samples"])
    figure("5,000 views of 1,000 Services", f"{seconds:.0f} s", f"{SECONDS} s on 2 idle cores")


@pytest.mark.timeout(1800)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: a second worker has nothing to run on")
def test_two_workers_against_one(benchmark, thousand, figure):
    """The views alone: without the start of processes and the sample."""
    _, one = fleet(thousand, "--nodes", "2000", "--workers", "1", "--sample", "0")
    _, two = benchmark.pedantic(lambda: fleet(thousand, "--nodes", "2000", "--workers", "2", "--sample", "0"), rounds=1)
    ratio = one["computed_by"]["views_seconds"] / two["computed_by"]["views_seconds"]
    figure("2 workers against 1", f"{ratio:.2f} x", f"{TIMES_OF_TWO} x on 2 idle cores")
    assert {each["node"]: each["digest"] for each in one["nodes"]} == {
        each["node"]: each["digest"] for each in two["nodes"]
    }
