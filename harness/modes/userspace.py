"""userspace mode: a proxy process with ordinary sockets, and cluster IPs as addresses of loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from engine.kernel.interface import KernelError
from engine.kernel.userspace import UserspaceKernel, UserspaceMemory
from harness.judge.behaviour import Behaviour
from harness.judge.oracle import Settings
from harness.judge.readback import userspace as check
from harness.judge.readback.check_result import CheckResult
from harness.judge.readback.compare import by_behaviour
from harness.judge.trace.userspace import tracer
from harness.modes.mode import Mode, Reporting
from harness.modes.opened import Opened
from harness.places.place import Place, output_of, tool_version

LABEL = "lo:kube-proxy"


class MemoryView:
    """The state of a `UserspaceMemory`."""

    def __init__(self, kernel: UserspaceMemory) -> None:
        self._kernel = kernel

    def check(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult:
        """As `CheckedView.check`."""
        return by_behaviour(lambda: self.behaviour(family), expected)

    def behaviour(self, family: int) -> Behaviour | None:
        """As `ModeView.behaviour`."""
        tables = self._kernel.tables.get(family)
        if tables is None:
            return None
        return check.behaviour_of(msgspec.to_builtins(tables.everything()), tables.addresses, tables.sockets())


class KernelView:
    """The state reported by the proxy process, and its addresses and sockets in the kernel."""

    def __init__(self, kernel: Reporting, place: Place) -> None:
        self._kernel, self._place = kernel, place

    def check(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult:
        """As `CheckedView.check`."""
        return by_behaviour(lambda: self.behaviour(family), expected)

    def behaviour(self, family: int) -> Behaviour | None:
        """As `ModeView.behaviour`."""
        said = self._kernel.everything(family)
        if said is None:
            return None
        addresses = check.read_addresses(
            output_of(self._place, "ip", f"-{family}", "-o", "address", "show", "dev", "lo")
        )
        sockets = check.read_sockets(output_of(self._place, "ss", f"-{family}", "-Hltun"))
        return check.behaviour_of(msgspec.to_builtins(said), addresses, sockets)


def memory() -> Opened:
    """An in-memory proxy."""
    kernel = UserspaceMemory()
    return Opened(kernel, MemoryView(kernel), {})


@contextmanager
def real(place: Place) -> Iterator[Opened]:
    """A proxy process in `place`; KernelError if a process cannot be kept there."""
    if place.start is None:
        raise KernelError(
            "mode userspace cannot be tested with single packets: its proxy handles only whole connections"
        )
    kernel = UserspaceKernel(place.start)
    try:
        yield Opened(kernel, KernelView(kernel, place), {"iproute2": tool_version(place, ["ip", "-V"])})
    finally:
        kernel.close()


def leftovers(place: Place) -> str | None:
    """Addresses of a proxy in this mode that already exist in `place`."""
    listed = place.run(["ip", "-o", "address", "show", "dev", "lo", "label", LABEL], b"").stdout
    return f"addresses labelled {LABEL}" if listed.strip() else None


def clean(place: Place) -> None:
    """Remove the addresses that a killed proxy left."""
    place.run(["ip", "address", "flush", "dev", "lo", "label", LABEL], b"")


MODE = Mode(
    name="userspace",
    commands={"ip": "iproute2", "ss": "iproute2"},
    memory=memory,
    real=real,
    tracer=tracer,
    leftovers=leftovers,
    clean=clean,
    translates=False,  # sockets, no rules: conntrack does not contain the forwarded datagrams
    daemon="harness.lab.dataplane.userspace_engine",
    beside=KernelView,
)
