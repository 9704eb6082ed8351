"""iptables mode against the bare tools: the first sync, one change, and what the engine keeps in memory.

The reference of a change is the program's own text fed to iptables-restore by hand, in the same
namespace, in turns with the engine's, so that a busy machine is busy for both.
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
from contextlib import contextmanager
from functools import partial

import psutil
import pytest

from benchmarks.test_one_change import _flips, _load
from engine.addresses import parse_network
from engine.config import ProxyConfig
from engine.kernel.base import Applied
from engine.kernel.iptables.variant import WAIT, tool
from engine.proxier import Proxier
from harness.modes import iptables
from harness.modes.place import Place
from harness.namespace import Namespace

SERVICES, ENDPOINTS, CHANGES = 10_000, 10, 12
KUBE_PROXY = {
    "legacy": ("16.4 s", "2.8 s"),
    "nft": ("given up after 1,500 s; 290 s at 10,000 x 2", "0.13 s at 1,000 x 10"),
}
TARGETS = {"legacy": "<= 10 s", "nft": "<= 60 s"}
CONFIG = ProxyConfig(pod_networks=(parse_network("10.128.0.0/9"),))


@contextmanager
def opened(variant: str):
    """A kernel in a throwaway namespace."""
    with Namespace() as namespace:
        place = Place("netns", namespace.socket, namespace.run)
        with iptables.real(place, variant) as real:
            yield real.kernel


@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", ["legacy", "nft"])
def test_first_sync_and_one_change(benchmark, recording_of, figure, variant):
    """A first sync, then changes one at a time, each once more by hand."""
    with opened(variant) as kernel:
        proxier = Proxier("iptables", CONFIG, kernel, time.perf_counter)
        flips = _flips(_load(proxier, recording_of(SERVICES, ENDPOINTS)), CHANGES + 1)
        first = proxier.sync()
        pairs: list[tuple[float, float]] = []
        benchmark.pedantic(lambda: pairs.append(_change(proxier, kernel, next(flips))), rounds=CHANGES, warmup_rounds=1)
    seconds = first.compute_seconds + first.apply_seconds
    reference, change = KUBE_PROXY[variant]
    figure(f"iptables-{variant}: first sync 10,000 x 10", f"{seconds:.1f} s", TARGETS[variant], reference)
    figure("  compute + apply", f"{first.compute_seconds:.2f} + {first.apply_seconds:.2f} s")
    if variant == "legacy":
        figure("  the bare restore of the same", f"{_bare_first(first.programs):.2f} s")
    ours, bare = (statistics.median(side) for side in zip(*pairs[1:], strict=True))
    target = "bare restore + 5 ms" if variant == "legacy" else ""
    figure(
        "  one change", f"{ours * 1e3:.0f} ms", target, f"bare restore {bare * 1e3:.0f} ms; kube-proxy 1.30 {change}"
    )
    more = statistics.median(our - its for our, its in pairs[1:])
    figure("  more than the bare restore", f"{more * 1e3:+.1f} ms", "<= 5 ms")


def _bare_first(programs) -> float:
    """Seconds of a first sync's text by hand, into tables that are there and empty, as the engine finds them."""
    seconds = 0.0
    with Namespace() as namespace:
        for program in programs:
            restore = tool("legacy", program.family, "restore")
            assert namespace.run([tool("legacy", program.family, "save")], b"").returncode == 0
            text = program.text().encode()
            started = time.perf_counter()
            done = namespace.run([restore, *WAIT, "--noflush", "--counters"], text)
            seconds += time.perf_counter() - started
            assert done.returncode == 0, done.stderr.decode()
    return seconds


def _change(proxier: Proxier, kernel, manifest: bytes) -> tuple[float, float]:
    """Seconds of one change by the engine, and of the same lines by hand."""
    started = time.perf_counter()
    proxier.state.observe("MODIFIED", "endpointslices", manifest)
    sync = proxier.sync()
    ours = time.perf_counter() - started
    restore = 0.0
    for program in sync.programs:
        # What was deleted is there no more; the same chains are written once more.
        text = "\n".join(line for line in program.text().splitlines() if not line.startswith(("-X", "-D", "-I"))) + "\n"
        command = [tool(kernel.variant, program.family, "restore"), *WAIT, "--noflush", "--counters"]
        started = time.perf_counter()
        assert kernel._run(command, text.encode()).returncode == 0
        restore += time.perf_counter() - started
    return ours, restore


class _Nowhere:
    """Takes every program and keeps none."""

    def apply(self, program):
        return Applied(program.operations)


def test_memory_of_the_state(benchmark, recording_of, figure):
    """What the process holds on to after the first sync: tracked objects, plans, and the backend's own."""
    path = recording_of(SERVICES, ENDPOINTS)
    process = psutil.Process(os.getpid())
    before = _resident(process)
    proxier = Proxier("iptables", CONFIG, _Nowhere(), time.perf_counter)
    _load(proxier, path)
    benchmark.pedantic(partial(_sync_and_forget, proxier), rounds=1)
    held = (_resident(process) - before) / 2**20
    figure("iptables: state of 10,000 x 10", f"{held:.0f} MiB", "<= 250 MiB", "kube-proxy 1.30: 418 MB in all")
    assert proxier.dataplanes[4].plans


def _sync_and_forget(proxier: Proxier) -> None:
    proxier.sync()


def _resident(process: psutil.Process) -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return process.memory_info().rss
