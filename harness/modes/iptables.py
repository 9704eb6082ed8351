"""iptables mode: chains KUBE-* in tables filter, nat and mangle, of the legacy or the nft variant."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

from engine.backends.iptables.names import CANARY
from engine.kernel.iptables import IptablesKernel, IptablesMemory
from engine.kernel.iptables.variant import VARIANTS, tool
from harness.behaviour import Behaviour
from harness.check.iptables import meaning
from harness.check.iptables_text import Tables
from harness.modes.place import Opened, Place

COMMANDS = {"iptables-nft-restore": "iptables", "iptables-legacy-restore": "iptables"}
"""Programs that must be there, and the packages that bring them."""


class View:
    """What a kernel of this mode holds, by what `iptables-save` prints of it."""

    def __init__(self, save: Callable[[int], str]) -> None:
        self.save = save

    def behaviour(self, family: int) -> Behaviour | None:
        """As `View.behaviour`."""
        tables = Tables(self.save(family))
        return meaning(tables) if ("nat", "KUBE-SERVICES") in tables.chains else None


def memory() -> Opened:
    """A kernel that only remembers."""
    kernel = IptablesMemory()
    return Opened(kernel, View(kernel.save), {})


@contextmanager
def real(place: Place, variant: str | None = None) -> Iterator[Opened]:
    """The kernel of `place`, by the tools of a variant, `legacy` or `nft`; by default the place's own."""
    if place.kind == "uml":
        variant = variant or "legacy"  # its nf_tables has no families ip and ip6
    with _own_lock(place) as place:
        kernel = IptablesKernel(place.run, variant, place.make_socket)
        words = place.run([tool(kernel.variant, 4), "-V"], b"").stdout.decode().split()
        try:
            yield Opened(kernel, View(kernel.save), {"iptables": f"{words[1].lstrip('v')} ({kernel.variant})"})
        finally:
            kernel.close()


@contextmanager
def _own_lock(place: Place) -> Iterator[Place]:
    """`place` with, where it is a throwaway namespace, a lock of its own for the tools."""
    with tempfile.NamedTemporaryFile(prefix="xtables-", suffix=".lock") as lock:
        yield place if place.kind == "host" else replace(place, run=_locked(place.run, lock.name))


def _locked(run, path: str) -> Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]]:
    """`run` with a lock file that no one else waits for, and that needs no rights over the host's."""
    return lambda command, stdin: run(["env", f"XTABLES_LOCKFILE={path}", *command], stdin)


def leftovers(place: Place) -> str | None:
    """What of a proxy in this mode `place` holds already."""
    for variant, family in product(VARIANTS, (4, 6)):
        if place.run([tool(variant, family), "-w", "-t", "nat", "-S", CANARY], b"").returncode == 0:
            return f"chain {CANARY} of {tool(variant, family)}"
    return None


def clean(place: Place) -> None:
    """Remove all that this mode made."""
    for variant in VARIANTS:
        kernel = IptablesKernel(place.run, variant, place.make_socket)
        for family in (4, 6):
            kernel.clean(family)
        kernel.close()


def forget_clients(place: Place) -> None:
    """Empty the lists in which rules remember clients (AFF-02): the kernel drops one with its last rule.

    Their files below /proc take no writes from a user namespace.
    """
    with _own_lock(place) as place:
        for variant, family in product(VARIANTS, (4, 6)):
            saved = place.run([tool(variant, family, "save"), "-t", "nat"], b"").stdout
            without = b"".join(line for line in saved.splitlines(keepends=True) if b" -m recent " not in line)
            for text in (without, saved) if without != saved else ():
                place.run([tool(variant, family, "restore")], text)
