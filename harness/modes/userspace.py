"""userspace mode: a proxy process with ordinary sockets, and cluster IPs as addresses of loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from engine.kernel.base import KernelError
from engine.kernel.userspace import UserspaceKernel, UserspaceMemory
from harness.behaviour import Behaviour
from harness.check import userspace as check
from harness.modes.place import Opened, Place

COMMANDS = {"ip": "iproute2", "ss": "iproute2"}
"""Programs that must be there, and the packages that bring them."""

TRANSLATES = False
"""Sockets, no rules: conntrack knows nothing of what becomes of a datagram."""

LABEL = "lo:kube-proxy"


class MemoryView:
    """What a `UserspaceMemory` holds."""

    def __init__(self, kernel: UserspaceMemory) -> None:
        self._kernel = kernel

    def behaviour(self, family: int) -> Behaviour | None:
        """As `View.behaviour`."""
        tables = self._kernel.tables.get(family)
        if tables is None:
            return None
        return check.meaning(msgspec.to_builtins(tables.everything()), tables.addresses, tables.sockets())


class KernelView:
    """What the proxy process says it does, and the addresses and sockets that the kernel has for it."""

    def __init__(self, kernel: UserspaceKernel, place: Place) -> None:
        self._kernel, self._place = kernel, place

    def behaviour(self, family: int) -> Behaviour | None:
        """As `View.behaviour`."""
        said = self._kernel.everything(family)
        if said is None:
            return None
        addresses = check.read_addresses(self._run("ip", f"-{family}", "-o", "address", "show", "dev", "lo"))
        sockets = check.read_sockets(self._run("ss", f"-{family}", "-Hltun"))
        return check.meaning(msgspec.to_builtins(said), addresses, sockets)

    def _run(self, *command: str) -> str:
        result = self._place.run(list(command), b"")
        if result.returncode:
            raise ValueError(f"{' '.join(command)}: {result.stderr.decode(errors='replace').strip()}")
        return result.stdout.decode()


def memory() -> Opened:
    """A proxy that only remembers."""
    kernel = UserspaceMemory()
    return Opened(kernel, MemoryView(kernel), {})


@contextmanager
def real(place: Place) -> Iterator[Opened]:
    """A proxy process in `place`; KernelError where no process may stay."""
    if place.start is None:
        raise KernelError(
            "mode userspace has no kernel to send single packets to: its proxy answers whole connections only"
        )
    words = place.run(["ip", "-V"], b"").stdout.decode().replace(",", " ").split()
    version = next((word.removeprefix("iproute2-") for word in words if word.startswith("iproute2-")), "unknown")
    kernel = UserspaceKernel(place.start)
    try:
        yield Opened(kernel, KernelView(kernel, place), {"iproute2": version})
    finally:
        kernel.close()


def leftovers(place: Place) -> str | None:
    """What of a proxy in this mode `place` holds already."""
    listed = place.run(["ip", "-o", "address", "show", "dev", "lo", "label", LABEL], b"").stdout
    return f"addresses labelled {LABEL}" if listed.strip() else None


def clean(place: Place) -> None:
    """Remove what a proxy that was killed had no time to: its addresses."""
    place.run(["ip", "address", "flush", "dev", "lo", "label", LABEL], b"")
