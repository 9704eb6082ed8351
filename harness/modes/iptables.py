"""iptables mode: chains KUBE-* in tables filter, nat and mangle, of the legacy or the nft variant."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from engine.kernel.iptables import IptablesKernel, IptablesMemory
from engine.kernel.iptables.variant import VARIANTS, tool
from harness.behaviour import Behaviour
from harness.modes.place import Opened, Place

COMMANDS = {"iptables-nft-restore": "iptables", "iptables-legacy-restore": "iptables"}
"""Programs that must be there, and the packages that bring them."""

VARIANT: str | None = None
"""`legacy` or `nft`; None is what the place itself uses."""

_TABLES = ("filter", "nat", "mangle")


class View:
    """What a kernel of this mode holds, by what `iptables-save` prints of it."""

    def __init__(self, save: Callable[[int], str]) -> None:
        self.save = save

    def behaviour(self, family: int) -> Behaviour | None:
        """As `View.behaviour`."""
        raise NotImplementedError


def memory() -> Opened:
    """A kernel that only remembers."""
    kernel = IptablesMemory()
    return Opened(kernel, View(kernel.save), {})


@contextmanager
def real(place: Place) -> Iterator[Opened]:
    """The kernel of `place`; in a throwaway namespace the tools have a lock of their own."""
    with tempfile.NamedTemporaryFile(prefix="xtables-", suffix=".lock") as lock:
        if place.kind != "host":
            place = replace(place, run=_locked(place.run, lock.name))
        kernel = IptablesKernel(place.run, VARIANT)
        words = place.run([tool(kernel.variant, 4), "-V"], b"").stdout.decode().split()
        yield Opened(kernel, View(kernel.save), {"iptables": f"{words[1].lstrip('v')} ({kernel.variant})"})


def _locked(run, path: str) -> Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]]:
    """`run` with a lock file that no one else waits for, and that needs no rights over the host's."""
    return lambda command, stdin: run(["env", f"XTABLES_LOCKFILE={path}", *command], stdin)


def leftovers(place: Place) -> str | None:
    """What of a proxy in this mode `place` holds already."""
    for variant in VARIANTS:
        for family in (4, 6):
            saved = place.run([tool(variant, family, "save")], b"").stdout
            if b"\n:KUBE-SERVICES " in saved:
                return f"chain KUBE-SERVICES of {tool(variant, family)}"
    return None


def clean(place: Place) -> None:
    """Remove all that this mode made."""
    for variant in VARIANTS:
        for family in (4, 6):
            saved = place.run([tool(variant, family, "save")], b"").stdout.decode()
            if ":KUBE-" in saved:
                place.run([tool(variant, family, "restore"), "--noflush"], without_kube(saved).encode())


def without_kube(saved: str) -> str:
    """Text that deletes the jumps into KUBE chains, and these chains, from what `iptables-save` printed."""
    lines: list[str] = []
    chains: list[str] = []
    for line in saved.splitlines():
        words = line.split()
        if line.startswith("*"):
            chains = []
            lines.append(line)
        elif line.startswith(":KUBE-"):
            chains.append(words[0][1:])
            lines.append(f"{words[0]} - [0:0]")
        elif line.startswith("-A ") and not words[1].startswith("KUBE-") and words[-1].startswith("KUBE-"):
            lines.append(line.replace("-A", "-D", 1))
        elif line == "COMMIT":
            lines += [f"-X {chain}" for chain in chains] + [line]
    return "\n".join(lines) + "\n"
