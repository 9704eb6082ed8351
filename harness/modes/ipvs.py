"""ipvs mode: IP_VS, device kube-ipvs0, sets KUBE-*, iptables chains KUBE-*."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine.backends.ipvs.program import IpvsProgram, restore_text
from engine.backends.ipvs.sets import full_name
from engine.kernel.interface import KernelError
from engine.kernel.ipvs import IpvsKernel, IpvsMemory
from engine.kernel.ipvs.real import iptables_variant
from harness.judge.behaviour import Behaviour
from harness.judge.oracle import Settings
from harness.judge.readback import ipvs as check
from harness.judge.readback.check_result import CheckResult
from harness.judge.readback.iptables_text import ParsedTables
from harness.judge.readback.ipvs_judge import SYSCTLS, IpvsState, judge
from harness.judge.trace.ipvs import tracer
from harness.modes.mode import Mode
from harness.modes.opened import Opened
from harness.places.place import Place, output_of, sysctls, tool_version

_FORGET_SECONDS = 5.0
_HEADINGS = 2
"""Header lines of `ipvsadm -Lnc`."""


def missing(place: Place) -> str | None:
    """Why the kernel of `place` does not support this mode, None if it does."""
    try:
        IpvsKernel(place.make_socket, place.run).close()
    except KernelError as error:
        return str(error)
    return None


class MemoryView:
    """The state of an `IpvsMemory`."""

    def __init__(self, kernel: IpvsMemory) -> None:
        self._kernel = kernel

    def read(self, family: int) -> check.Read | None:
        """The same values as from a readback of the real kernel."""
        state = self._kernel.held.get(family)
        if state is None:
            return None
        read = check.Read(addresses=set(state.addresses))
        servers = IpvsProgram(
            family=family,
            servers_added=tuple(state.servers.items()),
            destinations_added=tuple(
                (key, t) for key, weights in state.destinations.items() for t, w in weights.items() if w
            ),
        )
        check.read_servers("\n".join(servers.server_lines()), family, read)
        read.sets = {full_name(family, name): set(entries) for name, entries in state.entries.items()}
        check.read_rules(restore_text(state.rules, state.jumps), read)
        return read

    def check(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult:
        """As `CheckedView.check`."""
        return judge(family, self.state(family), expected, settings)

    def state(self, family: int) -> IpvsState | None:
        """The whole state of one family."""
        read, state = self.read(family), self._kernel.held.get(family)
        return (
            IpvsState(read, ParsedTables(restore_text(state.rules, state.jumps)), state.sysctls, alone=True)
            if read and state
            else None
        )

    def behaviour(self, family: int) -> Behaviour | None:
        """As `ModeView.behaviour`."""
        read = self.read(family)
        return check.behaviour_of(family, read) if read else None


class KernelView:
    """The kernel state of a place, read with the standard tools."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def read(self, family: int) -> check.Read | None:
        """None if the family's sets were never created."""
        read = check.Read()
        check.read_sets(output_of(self._place, "ipset", "save"), family, read)
        if not read.sets:
            return None
        check.read_servers(output_of(self._place, "ipvsadm", "-Sn"), family, read)
        check.read_addresses(
            output_of(self._place, "ip", f"-{family}", "-o", "address", "show", "dev", check.DEVICE), read
        )
        return read

    def rules(self, family: int, read: check.Read) -> None:
        """Includes the iptables rules, which a trace needs and behaviour does not."""
        check.read_rules(output_of(self._place, f"{iptables_variant(self._place.run, family)}-save"), read)

    def check(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult:
        """As `CheckedView.check`."""
        return judge(family, self.state(family), expected, settings)

    def state(self, family: int) -> IpvsState | None:
        """The whole state of one family."""
        read = self.read(family)
        if read is None:
            return None
        tables = ParsedTables(output_of(self._place, f"{iptables_variant(self._place.run, family)}-save"))
        return IpvsState(read, tables, sysctls(self._place, SYSCTLS), alone=self._place.kind != "host")

    def behaviour(self, family: int) -> Behaviour | None:
        """As `ModeView.behaviour`."""
        read = self.read(family)
        return check.behaviour_of(family, read) if read else None


def memory() -> Opened:
    """An in-memory kernel."""
    kernel = IpvsMemory()
    return Opened(kernel, MemoryView(kernel), {})


@contextmanager
def real(place: Place) -> Iterator[Opened]:
    """The kernel of `place`."""
    versions = {tool: tool_version(place, [tool, "--version"]) for tool in ("ipset", "ipvsadm", "iptables")}
    kernel = IpvsKernel(place.make_socket, place.run)
    try:
        yield Opened(kernel, KernelView(place), versions, kernel.missing)
    finally:
        kernel.close()


def leftovers(place: Place) -> str | None:
    """Objects of a proxy in this mode that already exist in `place`."""
    if place.run(["ip", "link", "show", "dev", check.DEVICE], b"").returncode == 0:
        return f"device {check.DEVICE}"
    if place.run(["ipvsadm", "-Sn"], b"").stdout.strip():
        return "virtual servers of IP_VS"
    return None


def clean(place: Place) -> None:
    """Remove everything created by this mode: servers, device, rules, then the sets used by rules (CLN-03)."""
    place.run(["ipvsadm", "-C"], b"")
    place.run(["ip", "link", "delete", check.DEVICE], b"")
    for family in (4, 6):
        save = f"{iptables_variant(place.run, family)}-save"
        text = place.run([save], b"").stdout.decode()
        place.run([save.replace("save", "restore"), "--noflush"], _without_kube(text).encode())
    names = place.run(["ipset", "list", "-n"], b"").stdout.decode().split()
    place.run(["ipset", "restore"], "".join(f"destroy {n}\n" for n in names if n.startswith("KUBE-")).encode())


def forget_clients(place: Place) -> None:
    """Recreate every virtual server, once the kernel has dropped the state of the old ones (IPVS-05).

    The kernel does so because this mode sets `expire_nodest_conn`, from a work queue since Linux 5.9.  A server's first
    client always gets the destination that was added last, so the order is random each time.
    """
    saved = place.run(["ipvsadm", "-Sn"], b"").stdout.decode().splitlines()
    servers = [line for line in saved if line.startswith("-A ")]
    destinations = [line for line in saved if line.startswith("-a ")]
    random.shuffle(destinations)
    place.run(["ipvsadm", "-C"], b"")
    until = time.monotonic() + _FORGET_SECONDS
    while len(place.run(["ipvsadm", "-Lnc"], b"").stdout.splitlines()) > _HEADINGS:
        if time.monotonic() > until:
            raise KernelError(f"IP_VS still has clients of removed servers after {_FORGET_SECONDS:g} s")
    place.run(["ipvsadm", "-R"], "".join(f"{line}\n" for line in servers + destinations).encode())


def _without_kube(saved: str) -> str:
    """Text that deletes KUBE chains and the jumps to them, from the output of `iptables-save`."""
    lines = []
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


MODE = Mode(
    name="ipvs",
    commands={"ipset": "ipset", "iptables": "iptables", "ipvsadm": "ipvsadm", "ip": "iproute2"},
    memory=memory,
    real=real,
    tracer=tracer,
    leftovers=leftovers,
    clean=clean,
    missing=missing,
    everywhere=False,
    forget_clients=forget_clients,
    user_namespaces=False,  # they cannot access IP_VS
    listings=(("ipvsadm", "-Sn"),),
    flush="ipvsadm -C && ! ipvsadm -Sn | grep -q .",
    damage="ipvsadm -Sn | awk '$1 == \"-A\" && $3 ~ /:30[0-9]+$/ {print $2, $3}'"
    " | while read -r kind server; do ipvsadm -D $kind $server || exit 1; done",
)
