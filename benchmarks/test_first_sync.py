"""From a recording's file to every rule live, relative to its parts alone and to the bare cost of the same elements.

The parts are read, compute and apply, one after the other in this process, each without the others.  The reference of
apply is a loop that knows nothing: it packs the elements of the finished state with `struct` and sends them as one
netlink batch into an equal, empty table.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import NamedTuple

import pytest

from engine.addresses import parse_network
from engine.config import ProxyConfig
from engine.kernel.interface import Applied
from engine.kernel.nftables import NftablesKernel, NftablesMemory
from engine.proxier import Proxier
from harness.garbage import uncollected
from harness.log import open_source
from harness.places.namespace import Namespace

ROUNDS = 3
LEFT_OUT = ("picks", "draws", "sticky-cluster-timeouts", "sticky-local-timeouts", "firewall-allowed")
"""Verdicts, which come with the rules, and ranges, too few to be worth a case."""


def test_first_sync_of_10000_services(benchmark, recording_of, replay, figure):
    """The whole, as reported by `harness replay`, and its parts, in turns; best of several rounds of each."""
    path = recording_of(10_000, 10)
    whole, parts, bares = [], [], []

    def turn() -> None:
        whole.append(replay(path)["initial"]["seconds"])
        parts.append(_parts(path))
        bares.append(_bare_seconds(path))

    benchmark.pedantic(turn, rounds=ROUNDS)
    best, bare = min(whole), min(bares)
    alone = _Parts(*map(min, zip(*parts, strict=True)))
    figure("first sync 10,000 x 10, file to live", f"{best:.2f} s", "<= 3 s")
    figure("  read, compute, apply, each alone", ", ".join(f"{part:.2f}" for part in alone) + " s")
    figure("  against the longest of them", f"{best / max(alone):.2f} x", "<= 1.25 x")
    figure("  against what Python does of them", f"{best / (alone.read + alone.compute):.2f} x", "", "read + compute")
    figure("  against all of them in turn", f"{best / sum(alone):.2f} x")
    figure("  apply against the bare batch", f"{alone.apply / bare:.2f} x", "<= 1.5 x", f"bare batch {bare:.2f} s")


@pytest.mark.timeout(900)
def test_first_sync_of_100000_services(benchmark, recording_of, replay, figure):
    """A million endpoints: time grows linearly."""
    small = replay(recording_of(10_000, 10))["initial"]["seconds"]
    path = recording_of(100_000, 10)
    found = []
    benchmark.pedantic(lambda: found.append(replay(path)), rounds=1)
    seconds, peak = found[0]["initial"]["seconds"], found[0]["peak_rss_bytes"] / 2**30
    figure("first sync 100,000 x 10", f"{seconds:.1f} s", "<= 40 s")
    figure("  peak memory", f"{peak:.2f} GiB", "<= 3 GiB")
    figure("  against ten times 10,000 x 10", f"{seconds / small / 10:.2f} x", "about 1 (linear)")


class _Parts(NamedTuple):
    """Seconds of each part of a first sync."""

    read: float
    compute: float
    apply: float


class _Keeping:
    """Keeps programs and applies none."""

    def __init__(self) -> None:
        self.programs = []

    def apply(self, program):
        self.programs.append(program)
        return Applied(0)


def _parts(path) -> _Parts:
    """Read the recording, then compute its programs, then apply them."""
    keeping = _Keeping()
    with uncollected(), Namespace() as namespace, namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as s:
        kernel = NftablesKernel(s, namespace.run)
        times = [time.perf_counter()]
        with open_source(path) as recording:
            pods = tuple(parse_network(text) for text in recording.header.cluster["clusterCIDR"].split(","))
            proxier = Proxier("nftables", ProxyConfig(pod_networks=pods), keeping, time.perf_counter)
            for event in recording:
                proxier.state.observe(event.type, event.resource, event.object)
        times.append(time.perf_counter())
        proxier.sync()
        times.append(time.perf_counter())
        for program in keeping.programs:
            kernel.apply(program)
        times.append(time.perf_counter())
    return _Parts(*(after - before for before, after in zip(times[:-1], times[1:], strict=True)))


def _bare_seconds(path) -> float:
    """Encode and send all elements of the final state, without rules."""
    scripts, elements = _finished_state(path)
    with Namespace() as namespace, namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        for script in scripts:
            assert namespace.run(["nft", "-f", "-"], script.encode()).returncode == 0
        NftablesKernel(sock, namespace.run)  # widens the socket's buffers
        started = time.perf_counter()
        sock.send(_bare_batch(elements))
        answer = sock.recv(1 << 16)
        seconds = time.perf_counter() - started
        assert struct.unpack_from("=i", answer, 16)[0] == 0
    return seconds


def _finished_state(path) -> tuple[list[str], dict[str, dict[bytes, bytes]]]:
    """The rules' text, and every element by set name."""
    kernel = _Listening()
    with open_source(path) as recording:
        pods = tuple(parse_network(text) for text in recording.header.cluster["clusterCIDR"].split(","))
        proxier = Proxier("nftables", ProxyConfig(pod_networks=pods), kernel, time.perf_counter)
        for event in recording:
            proxier.state.observe(event.type, event.resource, event.object)
        proxier.sync()
    return kernel.scripts, kernel.tables[4]


class _Listening(NftablesMemory):
    """Also keeps the scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []

    def apply(self, program):
        self.scripts += program.scripts
        return super().apply(program)


def _bare_batch(sets: dict[str, dict[bytes, bytes]]) -> bytes:
    head = struct.Struct("=IHHIIBBH").pack
    generation = struct.unpack("=H", b"\0\x0a")[0]
    parts = [head(20, 0x10, 1, 0, 0, 0, 0, generation)]
    for name, elements in sets.items():
        if not elements or name in LEFT_OUT:
            continue
        items = [_element(key, data) for key, data in elements.items()]
        step = 60_000 // len(items[0])
        names = _attribute(1, b"kube-proxy\0") + _attribute(2, name.encode() + b"\0")
        for start in range(0, len(items), step):
            body = names + _attribute(0x8003, b"".join(items[start : start + step]))
            parts.append(head(20 + len(body), 0x0A0C, 0x401, 0, 0, 2, 0, 0) + body)
    parts.append(head(20, 0x11, 5, 0, 0, 0, 0, generation))
    return b"".join(parts)


def _element(key: bytes, data: bytes) -> bytes:
    inner = _attribute(0x8001, _attribute(1, key))
    if data:
        inner += _attribute(0x8002, _attribute(1, data))
    return _attribute(0x8001, inner)


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)
