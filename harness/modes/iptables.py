"""iptables mode: chains KUBE-* in tables filter, nat and mangle, of the legacy or the nft variant."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product

from engine.backends.iptables.names import CANARY
from engine.kernel.iptables import IptablesKernel, IptablesMemory
from engine.kernel.iptables.variant import VARIANTS, tool
from harness.judge.behaviour import Behaviour
from harness.judge.oracle import Settings
from harness.judge.readback.check_result import CheckResult
from harness.judge.readback.iptables import behaviour_of
from harness.judge.readback.iptables_judge import ROUTE_LOCALNET, IptablesState, judge
from harness.judge.readback.iptables_text import ParsedTables
from harness.judge.trace.iptables import tracer
from harness.modes.mode import Mode, Notifications
from harness.modes.opened import Opened
from harness.places.place import Place, sysctls, tool_version
from harness.temporary import temporary_folder


class IptablesView:
    """The kernel state of this mode, from `iptables-save`; `place` None: in memory."""

    def __init__(self, save: Callable[[int], str], place: Place | None = None) -> None:
        self.save, self._place = save, place
        self._ahead: dict[int, Future[str]] = {}

    def read_ahead(self, families: Iterable[int]) -> None:
        """As `harness.judge.verify.ReadAheadView.read_ahead`."""
        thread = ThreadPoolExecutor(1, "iptables-save")
        self._ahead = {family: thread.submit(self.save, family) for family in families}
        thread.shutdown(wait=False)

    def read(self, family: int) -> IptablesState | None:
        """None if nothing was programmed for the family."""
        ahead = self._ahead.pop(family, None)
        tables = ParsedTables(ahead.result() if ahead else self.save(family))
        if ("nat", "KUBE-SERVICES") not in tables.chains:
            return None
        if self._place is None:
            return IptablesState(tables, None, alone=True)
        return IptablesState(tables, sysctls(self._place, (ROUTE_LOCALNET,)), alone=self._place.kind != "host")

    def behaviour(self, family: int) -> Behaviour | None:
        """As `ModeView.behaviour`."""
        state = self.read(family)
        return behaviour_of(state.tables) if state else None

    def check(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult:
        """As `CheckedView.check`."""
        return judge(family, self.read(family), expected, settings)


def memory() -> Opened:
    """An in-memory kernel."""
    kernel = IptablesMemory()
    return Opened(kernel, IptablesView(kernel.save), {})


@contextmanager
def real(place: Place, variant: str | None = None) -> Iterator[Opened]:
    """The kernel of `place`, with the tools of a variant, `legacy` or `nft`; by default the detected one."""
    with _own_lock(place) as (place, lock):
        kernel = IptablesKernel(place.run, variant, place.make_socket, lock)
        version = tool_version(place, [tool(kernel.variant, 4), "-V"])
        try:
            yield Opened(
                kernel, IptablesView(kernel.save, place), {"iptables": f"{version} ({kernel.variant})"}, kernel.missing
            )
        finally:
            kernel.close()


@contextmanager
def _own_lock(place: Place) -> Iterator[tuple[Place, str | None]]:
    """`place` and its lock; a throwaway namespace gets a separate lock file for the tools."""
    if place.kind == "host":
        yield place, None
        return
    with temporary_folder("xtables") as folder:
        lock = str(folder / "xtables.lock")
        yield replace(place, run=_locked(place.run, lock)), lock


def _locked(
    run: Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]], path: str
) -> Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]]:
    """`run` with a lock file that no other program uses, and that needs no privileges on the host."""
    return lambda command, stdin: run(["env", f"XTABLES_LOCKFILE={path}", *command], stdin)


def notices(place: Place) -> Notifications:
    """Notifications: the nft variant's changes are nftables transactions."""
    nft = b"nf_tables" in place.run(["iptables", "-V"], b"").stdout
    return Notifications.TRANSACTIONS if nft else Notifications.NONE


def leftovers(place: Place) -> str | None:
    """Rules of a proxy in this mode that already exist in `place`."""
    for variant, family in product(VARIANTS, (4, 6)):
        if place.run([tool(variant, family), "-w", "-t", "nat", "-S", CANARY], b"").returncode == 0:
            return f"chain {CANARY} of {tool(variant, family)}"
    return None


def clean(place: Place) -> None:
    """Remove everything created by this mode."""
    for variant in VARIANTS:
        kernel = IptablesKernel(place.run, variant, place.make_socket)
        for family in (4, 6):
            kernel.clean(family)
        kernel.close()


def forget_clients(place: Place) -> None:
    """Clear the lists in which rules record clients (AFF-02): the kernel drops a list with its last rule.

    Their files in /proc are not writable from a user namespace.
    """
    with _own_lock(place) as (place, _):
        for variant, family in product(VARIANTS, (4, 6)):
            saved = place.run([tool(variant, family, "save"), "-t", "nat"], b"").stdout
            without = b"".join(line for line in saved.splitlines(keepends=True) if b" -m recent " not in line)
            for text in (without, saved) if without != saved else ():
                place.run([tool(variant, family, "restore")], text)


MODE = Mode(
    name="iptables",
    commands={"iptables-nft-restore": "iptables", "iptables-legacy-restore": "iptables"},
    memory=memory,
    real=real,
    tracer=tracer,
    leftovers=leftovers,
    clean=clean,
    variants={variant: partial(real, variant=variant) for variant in VARIANTS},
    forget_clients=forget_clients,
    notices=notices,
    families=(4, 6),
    listings=(("iptables-save",),),
    flush="for c in iptables $(test ! -e /proc/net/if_inet6 || echo ip6tables); do"
    " for t in nat filter mangle; do $c -t $t -F && $c -t $t -X || exit 1; done; done"
    " && ! iptables -t nat -S KUBE-SERVICES",
    damage="iptables -t nat -F KUBE-NODEPORTS",
)
