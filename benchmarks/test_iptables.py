"""iptables mode against the bare kernel and the bare tools: first sync, one change, and memory.

One change is compared with the least work that the kernel can be asked for: in the nft variant a batch that replaces
one rule, in the legacy variant the same blob once more; and, at 1,000 Services, with `iptables-nft-restore` of the
program's text.  The first sync is compared with the same netlink batches sent by hand, or with
`iptables-legacy-restore` of the same text.  Measurements alternate, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import psutil
import pytest

from benchmarks.changes import flips_of, load
from engine.addresses import parse_network
from engine.config import ProxyConfig
from engine.kernel.interface import Applied
from engine.kernel.iptables.real import foundations
from engine.kernel.iptables.variant import WAIT, tool
from engine.kernel.netlink import APPEND, CREATE, attribute, nfnetlink, text
from engine.kernel.nftables.netlink import NFPROTO, SUBSYSTEM
from engine.proxier import Proxier
from harness.modes import iptables
from harness.places.namespace import Namespace
from harness.places.place import Place

SERVICES, ENDPOINTS, CHANGES = 10_000, 10, 12
CASES = (("nft", 1_000), ("nft", 10_000), ("legacy", 10_000))
CONFIG = ProxyConfig(pod_networks=(parse_network("10.128.0.0/9"),))


@contextmanager
def opened(variant: str):
    """A kernel in a throwaway namespace."""
    with Namespace() as namespace:
        place = Place("netns", namespace.socket, namespace.run)
        with iptables.real(place, variant) as real:
            yield real.kernel


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("variant", "services"), CASES)
def test_first_sync_and_one_change(benchmark, recording_of, figure, variant, services):
    """A first sync, then changes one at a time, each followed by the kernel's least."""
    with opened(variant) as kernel:
        batches = _listen(kernel)
        proxier = Proxier("iptables", CONFIG, kernel, time.perf_counter)
        with _as_at_a_start():
            flips = flips_of(load(proxier, recording_of(services, ENDPOINTS)), CHANGES + 1)
            started = time.process_time()
            first = proxier.sync()
            cpu = time.process_time() - started
        sent, batches[:] = [*batches], []
        turns: list[tuple[Took, Took, Took]] = []
        benchmark.pedantic(
            lambda: turns.append(_change(proxier, kernel, next(flips), services)), rounds=CHANGES, warmup_rounds=1
        )
    name, seconds = f"iptables-{variant}, {services:,} x {ENDPOINTS}", first.compute_seconds + first.apply_seconds
    figure(f"{name}: first sync", f"{seconds:.1f} s")
    figure("  compute + apply", f"{first.compute_seconds:.2f} + {first.apply_seconds:.2f} s")
    bare = _bare_restore(first.programs) if variant == "legacy" else _bare_batches(first.programs, sent)
    what = "bare restore" if variant == "legacy" else "bare batches"
    ours = Took(seconds, cpu)
    figure(f"  against the {what}", _ratio([ours], [bare]), BOUNDS[variant], f"{bare.seconds:.2f} s")
    ours, least, tools = ([turn[at] for turn in turns[1:]] for at in range(3))
    figure("  one change", f"{_median(ours) * 1e3:.1f} ms")
    figure("  against the kernel's least", _ratio(ours, least), "<= 1.3 x", f"{_median(least) * 1e3:.1f} ms")
    if any(turn.seconds for turn in tools):
        figure(
            "  against the tool on the same text", _ratio(ours, tools), "<= 0.25 x", f"{_median(tools) * 1e3:.0f} ms"
        )


@contextmanager
def _as_at_a_start():
    """Without garbage collection, of which the daemon and replays exclude what they load."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Took(NamedTuple):
    """Seconds by the clock, and seconds that a CPU worked, tools included: a busy machine changes these less."""

    seconds: float
    cpu: float

    @classmethod
    def since(cls, start: tuple[float, float]) -> Took:
        """From a `_now()` on."""
        now = _now()
        return cls(now[0] - start[0], now[1] - start[1])


def _now() -> tuple[float, float]:
    used = os.times()
    return time.perf_counter(), time.process_time() + used.children_user + used.children_system


def _median(turns: list[Took]) -> float:
    return statistics.median(turn.seconds for turn in turns)


def _ratio(ours: list[Took], others: list[Took]) -> str:
    pairs = list(zip(ours, others, strict=True))
    clock, cpu = (statistics.median(our[at] / its[at] for our, its in pairs) for at in range(2))
    return f"{clock:.2f} x (CPU {cpu:.2f} x)"


BOUNDS = {"legacy": "<= 0.5 x", "nft": "<= 1.3 x"}


def _listen(kernel) -> list[list[bytes]]:
    """Every transaction from now on."""
    found: list[list[bytes]] = []
    if kernel._writer:
        connection = kernel._writer._connection
        send = connection.transaction

        def transaction(requests, *rest):
            found.append(requests)
            return send(requests, *rest)

        connection.transaction = transaction
    return found


def _bare_batches(programs, batches: list[list[bytes]]) -> Took:
    """Seconds of the same transactions by hand, into tables that are there and empty."""
    with opened("nft") as kernel:
        for program in programs:
            kernel._restore(program.family, foundations(program, {}))
        started = _now()
        for batch in batches:
            kernel._writer._connection.transaction(batch, SUBSYSTEM)
        return Took.since(started)


def _bare_restore(programs) -> Took:
    """Seconds of a first sync's text by hand, into tables that are there and empty, as the engine finds them."""
    found = Took(0.0, 0.0)
    with Namespace() as namespace:
        for program in programs:
            restore = tool("legacy", program.family, "restore")
            assert namespace.run([tool("legacy", program.family, "save")], b"").returncode == 0
            text = program.text().encode()
            started = _now()
            done = namespace.run([restore, *WAIT, "--noflush", "--counters"], text)
            found = Took(*map(sum, zip(found, Took.since(started), strict=True)))
            assert done.returncode == 0, done.stderr.decode()
    return found


def _change(proxier: Proxier, kernel, manifest: bytes, services: int) -> tuple[Took, Took, Took]:
    """Seconds of one change by the engine, of the kernel's least, and of the same text by the tool (0: not asked)."""
    started = _now()
    proxier.state.observe("MODIFIED", "endpointslices", manifest)
    sync = proxier.sync()
    ours = Took.since(started)
    (program,) = sync.programs
    chain = next(chain for chain in program.tables[-1].chains if chain.startswith("KUBE-SV"))
    least = _one_rule(kernel, program.family, chain) if kernel._writer else _same_blob(kernel, program.family)
    return ours, least, _by_tool(kernel, program) if kernel._writer and services == 1_000 else Took(0.0, 0.0)


def _one_rule(kernel, family: int, chain: str) -> Took:
    """Replace a chain's last rule by itself."""
    expressions, handle = kernel._writer._handles.held((family, "nat", chain))[-1]
    owner = text(1, "nat") + text(2, chain)
    requests = [
        nfnetlink(0x0A08, 0, NFPROTO[family], owner + attribute(3, handle)),
        nfnetlink(0x0A06, CREATE | APPEND, NFPROTO[family], owner + attribute(4, expressions)),
    ]
    started = _now()
    kernel._writer._connection.transaction(requests, SUBSYSTEM)
    return Took.since(started)


def _same_blob(kernel, family: int) -> Took:
    """Replace table nat by itself."""
    tables = kernel._tables
    with tables.held():
        info = tables.table(family, "nat").info
        started = _now()
        tables.commit(family, "nat", info, [(0, info.entries - 1)])
        return Took.since(started)


def _by_tool(kernel, program) -> Took:
    """The same chains written again by `iptables-nft-restore`."""
    lines = (line for line in program.text().splitlines() if not line.startswith(("-X", "-D", "-I")))
    command = [tool("nft", program.family, "restore"), *WAIT, "--noflush", "--counters"]
    started = _now()
    assert kernel._run(command, "".join(f"{line}\n" for line in lines).encode()).returncode == 0
    return Took.since(started)


class _Nowhere:
    """Takes every program and keeps none."""

    def apply(self, program):
        return Applied(program.operations)


def test_memory_of_the_state(benchmark, recording_of, figure):
    """The objects that the process keeps after the first sync: tracked objects, plans, and the backend's own."""
    path = recording_of(SERVICES, ENDPOINTS)
    process = psutil.Process(os.getpid())
    before = _resident(process)
    proxier = Proxier("iptables", CONFIG, _Nowhere(), time.perf_counter)
    load(proxier, path)
    benchmark.pedantic(partial(_sync_and_forget, proxier), rounds=1)
    held = (_resident(process) - before) / 2**20
    figure("iptables: state of 10,000 x 10", f"{held:.0f} MiB", "<= 250 MiB")
    assert proxier.dataplanes[4].plans


def _sync_and_forget(proxier: Proxier) -> None:
    proxier.sync()


def _resident(process: psutil.Process) -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return process.memory_info().rss
