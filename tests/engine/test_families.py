"""Families fail, retry and recover each by itself, and one Service's fault stays its own."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import struct
import time
from math import inf

import pytest

from engine.backends.nftables import NftablesBackend
from engine.backends.nftables.program import SetChange
from engine.config import ProxyConfig
from engine.kernel.interface import KernelError
from engine.model import Name
from engine.modes import MODES
from engine.pacing import Pacer
from engine.proxier import Proxier, SyncError
from engine.server.runtime.loop import Loop
from harness.conformance.corpus.clusters import end, service, slice_
from harness.modes import nftables


class Kernel:
    """An in-memory kernel that rejects some families by raising the given error; records all programs."""

    def __init__(self) -> None:
        self.opened = nftables.memory()
        self.raises: dict[int, Exception] = {}
        self.came: list[tuple[int, bool]] = []

    def apply(self, program):
        self.came.append((program.family, program.start))
        if program.family in self.raises:
            raise self.raises[program.family]
        return self.opened.kernel.apply(program)

    def programmed(self, family: int) -> set[str]:
        """Cluster IPs that are translated."""
        return {to for to in self.opened.view.behaviour(family).destinations}


class Choosy(NftablesBackend):
    """Raises for a Service whose name begins with "bad", in the midst of a change."""

    def plan(self, changes, host):
        program = super().plan([change for change in changes if not _bad(change)], host)
        if any(_bad(change) for change in changes):
            raise OverflowError("513 does not fit")
        return program


def _bad(change) -> bool:
    return change.service.name.startswith("bad") and bool(change.new)


def dual(name: str, number: int) -> list[tuple[str, dict]]:
    """A Service of both families and its endpoints."""
    ips = [f"172.30.0.{number}", f"fd00:96::{number}"]
    made = service(name=name, ip=ips[0], clusterIPs=ips, ipFamilies=["IPv4", "IPv6"])
    ends = {"IPv4": f"10.180.0.{number}", "IPv6": f"fd00:10::{number}"}
    pieces = [slice_(end(ip), name=f"{name}-{family}", of=name, family=family) for family, ip in ends.items()]
    return [("services", made), *(("endpointslices", piece) for piece in pieces)]


def observe(proxier: Proxier, objects, event: str = "ADDED") -> None:
    for resource, manifest in objects:
        proxier.state.observe(event, resource, json.dumps(manifest).encode())


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def proxier(kernel):
    return Proxier("nftables", ProxyConfig(), kernel, time.perf_counter, "n1")


class Quiet:
    """An observer that counts."""

    def __init__(self) -> None:
        self.syncs: list[tuple[int, bool]] = []

    def __getattr__(self, name: str):
        return lambda *_: None

    def synced(self, family: int, sync, seconds: float) -> None:
        self.syncs.append((family, True))

    def failed(self, family: int, error: Exception, full: bool, seconds: float) -> None:
        self.syncs.append((family, False))


class Loops(Loop):
    """The daemon's loop on a clock that jumps to whatever is due next; ends after so many waits."""

    def __init__(self, proxier: Proxier, observer: Quiet, rounds: int) -> None:
        self.now, self._rounds = 0.0, rounds
        super().__init__(proxier, lambda: Pacer(1.0, 30.0), lambda: self.now, observer)
        for resource in ("services", "endpointslices"):
            self.deliver(resource, [], True)

    def _take(self, seconds: float) -> None:
        self._rounds -= 1
        if self._rounds < 0:
            return self.stop()
        if self._inbox.empty() and 0 < seconds < inf:
            self.now += seconds
        super()._take(0)


@pytest.mark.parametrize("refusal", [KernelError("no"), OSError(105, "No buffer space"), struct.error("'I' format")])
def test_a_repeatedly_rejected_family_does_not_affect_the_other(proxier, kernel, refusal):
    """For any exception of the kernel package: IPv4 is written once, IPv6 retried with growing delays."""
    observe(proxier, dual("web", 1))
    kernel.raises[6] = refusal
    observer = Quiet()
    loop = Loops(proxier, observer, 9)
    loop.run()
    assert kernel.came.count((4, True)) == 1
    assert kernel.came.count((6, True)) >= 5
    assert observer.syncs.count((4, True)) == 1 and (4, False) not in observer.syncs
    assert proxier.programmed == (4,)
    failures = observer.syncs.count((6, False))
    assert loop.now >= sum(min(30, 2**n) for n in range(failures - 1)), "slower each time"


def test_changes_during_a_failure_are_not_lost(proxier, kernel):
    """A rejected family finally receives the changes made meanwhile, the other one at once."""
    observe(proxier, dual("web", 1))
    kernel.raises[6] = KernelError("no")
    with pytest.raises(SyncError) as raised:
        proxier.sync()
    assert set(raised.value.refused) == {6}
    observe(proxier, dual("shop", 2))
    proxier.sync((4,))
    del kernel.raises[6]
    proxier.sync((6,))
    assert len(kernel.programmed(4)) == len(kernel.programmed(6)) == 2
    assert kernel.came[-1] == (6, True)
    observe(proxier, dual("web", 1), "DELETED")
    proxier.sync()
    assert kernel.came[-2:] == [(4, False), (6, False)]


def test_a_service_that_breaks_the_backend_is_set_aside(proxier, kernel, monkeypatch):
    """Others are programmed, at the start and later; it is named, and tried again when it changes."""
    monkeypatch.setitem(MODES, "nftables", dataclasses.replace(MODES["nftables"], backend=Choosy))
    proxier = Proxier("nftables", ProxyConfig(), kernel, time.perf_counter, "n1")
    for number, name in enumerate(["a", "bad1", "c", "bad2", "e"], start=1):
        observe(proxier, dual(name, number))
    proxier.sync()
    assert len(kernel.programmed(4)) == len(kernel.programmed(6)) == 3
    assert set(proxier.degraded(4)) == {Name("ns", "bad1"), Name("ns", "bad2")}
    assert "OverflowError: 513 does not fit" in proxier.degraded(6)[Name("ns", "bad1")]
    observe(proxier, [*dual("bad3", 6), *dual("g", 7)])
    proxier.sync()
    assert len(kernel.programmed(4)) == 4 and len(proxier.degraded(4)) == 3
    observe(proxier, dual("bad1", 2), "DELETED")
    observe(proxier, dual("a", 1), "DELETED")
    proxier.sync()
    assert len(kernel.programmed(4)) == 3 and len(proxier.degraded(4)) == 2
    monkeypatch.setattr(Choosy, "plan", NftablesBackend.plan)
    proxier.resync()
    proxier.sync()
    assert len(kernel.programmed(4)) == 5 and not proxier.degraded(4)


def test_a_service_that_cannot_be_planned_has_no_rules_and_harms_no_other(proxier, kernel, monkeypatch):
    from engine import dataplane

    real = dataplane.plan_service

    def planned(service, *rest):
        if service.name.name == "odd":
            raise struct.error("no")
        return real(service, *rest)

    monkeypatch.setattr(dataplane, "plan_service", planned)
    for number, name in enumerate(["a", "odd", "z"], start=1):
        observe(proxier, dual(name, number))
    proxier.sync()
    assert len(kernel.programmed(4)) == 2
    assert proxier.degraded(4) == {Name("ns", "odd"): "cannot be planned: error: no"}
    observe(proxier, dual("odd", 2), "DELETED")
    proxier.sync()
    assert not proxier.degraded(4)


def test_a_backend_that_cannot_even_start_is_a_failed_sync(proxier, kernel, monkeypatch):
    def never(*_):
        raise ValueError("no such layout")

    monkeypatch.setattr(NftablesBackend, "plan", never)
    observe(proxier, dual("a", 1))
    with pytest.raises(SyncError, match="IPv4: failed to compute the program: ValueError: no such layout"):
        proxier.sync()
    monkeypatch.undo()
    proxier.sync()
    assert len(kernel.programmed(4)) == 1


def test_a_refused_sync_leaves_nothing_in_memory(proxier, kernel):
    """The collector is off until the first sync: a cycle through a traceback would keep each program."""
    for number in range(1, 60):
        observe(proxier, dual(f"s{number}", number))
    gc.collect()
    gc.disable()
    logging.disable()  # pytest's own handler keeps the tracebacks that it is given
    try:
        left = [_changes_of_sets()]
        for _ in range(4):
            kernel.raises = {4: KernelError("no"), 6: OSError("no")}
            with contextlib.suppress(SyncError):
                proxier.sync()
            kernel.raises = {}
            left.append(_changes_of_sets())
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()
    assert left == left[:1] * 5


def _changes_of_sets() -> int:
    return sum(isinstance(each, SetChange) for each in gc.get_objects())
