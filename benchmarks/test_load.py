"""Open-loop traffic through the lab: whether the rate is sustained, and the CPU share of the proxies."""

from __future__ import annotations

import os
import time

import pytest

from chaos.load import start_load
from chaos.load_options import LoadOptions
from chaos.run_facts import LoadFile
from chaos.verdict.facts import Load, read_load
from harness.lab.control import LabClient
from harness.lab.launch import lab
from harness.lab.topology import LabOptions

RATE, SECONDS = 2_000, 20
HELD_US = 1_000_000
"""A request is held when its answer came this soon after it was due: a queue that grows holds nothing."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_rate_held_in_the_lab(benchmark, tmp_path, figure, mode):
    """Every due request must be answered within a second; there are no changes meanwhile."""
    options = LoadOptions(arrivals_per_second=RATE)
    with lab(LabOptions(nodes=3, pods=12, mode=mode), tmp_path / "lab") as client:
        processes = start_load(client, options, tmp_path / "load", 1)
        before, began = _cpu_seconds(client), time.monotonic()
        benchmark.pedantic(lambda: time.sleep(SECONDS), rounds=1)
        engines, took = _cpu_seconds(client) - before, time.monotonic() - began
        began_ns = client.status().began_monotonic_ns
        stopped = [(process, process.stop()) for process in processes]
    load = Load(seconds=[], failures=[], flows=[], headers=[], incomplete=[])
    for process, code in stopped:
        read_load(process.out, LoadFile(process.where, str(process.out), code), began_ns, load)
    assert load.incomplete == []
    held = load.held(HELD_US)
    figure(f"{mode}: held, of {RATE:,} due a second", f"{held:.2%} = {held * RATE:,.0f}/s", f"{RATE:,}/s", "1.0")
    figure("  lost, not sent", f"{load.failed:,}, {load.not_sent:,}", "0, 0")
    figure("  latency p50, p99 from when due", f"{load.latency_us(50) / 1e3:.1f}, {load.latency_us(99) / 1e3:.1f} ms")
    figure("  three engines' share of the CPU", f"{engines / took / os.cpu_count():.2%}")


def _cpu_seconds(client: LabClient) -> float:
    """CPU time of all engines since they started."""
    return sum(usage.cpu_seconds for usage in client.engine_usage().values())
