"""A readiness change of one endpoint: compute and apply until the kernel has it, at three sizes."""

from __future__ import annotations

import socket
import statistics
import time

import pytest

from benchmarks.changes import flips_of, load
from engine.config import ProxyConfig
from engine.kernel.nftables import NftablesKernel
from engine.proxier import Proxier
from harness.places.namespace import Namespace

CHANGES = 1_000
_medians: dict[int, float] = {}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("services", [1_000, 10_000, 100_000])
def test_one_endpoint_change(benchmark, recording_of, figure, services):
    """p50 and p99 of many single changes, each in a separate sync."""
    with Namespace() as namespace, namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        kernel = NftablesKernel(sock, namespace.run)
        proxier = Proxier("nftables", ProxyConfig(), kernel, time.perf_counter)
        flips = flips_of(load(proxier, recording_of(services, 10)), CHANGES + 20)
        proxier.sync()
        seconds: list[float] = []
        benchmark.pedantic(lambda: seconds.append(_flip(proxier, next(flips))), rounds=CHANGES, warmup_rounds=20)
    _report(services, sorted(seconds[20:]), figure)


def _report(services: int, seconds: list[float], figure) -> None:
    median, p99 = statistics.median(seconds), seconds[len(seconds) * 99 // 100]
    _medians[services] = median
    target = "p50 <= 1 ms, p99 <= 5 ms" if services == 10_000 else ""
    row = f"p50 {median * 1e3:.3f} ms, p99 {p99 * 1e3:.3f} ms"
    figure(f"one change at {services:,} Services", row, target)
    if services == 100_000 and 1_000 in _medians:
        figure("  100,000 against 1,000 Services", f"{median / _medians[1_000]:.2f} x", "<= 2 x")


def _flip(proxier: Proxier, manifest: bytes) -> float:
    started = time.perf_counter()
    proxier.state.observe("MODIFIED", "endpointslices", manifest)
    proxier.sync()
    return time.perf_counter() - started
