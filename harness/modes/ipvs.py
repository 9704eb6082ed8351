"""ipvs mode: IP_VS, device kube-ipvs0, sets KUBE-*, iptables chains KUBE-*."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine.backends.ipvs.program import IpvsProgram, restore_text
from engine.backends.ipvs.sets import full_name
from engine.kernel.base import KernelError
from engine.kernel.ipvs import IpvsKernel, IpvsMemory
from engine.kernel.ipvs.real import iptables_variant
from harness.behaviour import Behaviour
from harness.check import ipvs as check
from harness.modes.place import Opened, Place

COMMANDS = {"ipset": "ipset", "iptables": "iptables", "ipvsadm": "ipvsadm", "ip": "iproute2"}
"""Programs that must be there, and the packages that bring them."""

UNPRIVILEGED = False
"""IP_VS is closed to user namespaces."""

_FORGET_SECONDS = 5.0
_HEADINGS = 2
"""Lines of `ipvsadm -Lnc` before the first connection."""


def missing(place: Place) -> str | None:
    """Why the kernel of `place` cannot do this mode, None when it can."""
    try:
        IpvsKernel(place.make_socket, place.run).close()
    except KernelError as error:
        return str(error)
    return None


class MemoryView:
    """What an `IpvsMemory` holds."""

    def __init__(self, kernel: IpvsMemory) -> None:
        self._kernel = kernel

    def read(self, family: int) -> check.Read | None:
        """The same values as a read-back of the real kernel gives."""
        held = self._kernel.held.get(family)
        if held is None:
            return None
        read = check.Read(addresses=set(held.addresses))
        servers = IpvsProgram(
            family=family,
            servers_added=tuple(held.servers.items()),
            destinations_added=tuple(
                (key, t) for key, weights in held.destinations.items() for t, w in weights.items() if w
            ),
        )
        check.read_servers("\n".join(servers.server_lines()), family, read)
        read.sets = {full_name(family, name): set(entries) for name, entries in held.entries.items()}
        check.read_rules(restore_text(held.rules, held.jumps), read)
        return read

    def behaviour(self, family: int) -> Behaviour | None:
        """As `View.behaviour`."""
        read = self.read(family)
        return check.meaning(family, read) if read else None


class KernelView:
    """What the kernel of a place holds, read with the tools users have."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def read(self, family: int) -> check.Read | None:
        """None when the family's sets were never made."""
        read = check.Read()
        check.read_sets(self._run("ipset", "save"), family, read)
        if not read.sets:
            return None
        check.read_servers(self._run("ipvsadm", "-Sn"), family, read)
        check.read_addresses(self._run("ip", f"-{family}", "-o", "address", "show", "dev", check.DEVICE), read)
        return read

    def rules(self, family: int, read: check.Read) -> None:
        """The iptables rules as well, which behaviour has no need of and a trace has."""
        check.read_rules(self._run(f"{iptables_variant(self._place.run, family)}-save"), read)

    def behaviour(self, family: int) -> Behaviour | None:
        """As `View.behaviour`."""
        read = self.read(family)
        return check.meaning(family, read) if read else None

    def _run(self, *command: str) -> str:
        result = self._place.run(list(command), b"")
        if result.returncode:
            raise ValueError(f"{' '.join(command)}: {result.stderr.decode(errors='replace').strip()}")
        return result.stdout.decode()


def memory() -> Opened:
    """A kernel that only remembers."""
    kernel = IpvsMemory()
    return Opened(kernel, MemoryView(kernel), {})


@contextmanager
def real(place: Place) -> Iterator[Opened]:
    """The kernel of `place`."""
    versions = {}
    for tool in ("ipset", "ipvsadm", "iptables"):
        words = place.run([tool, "--version"], b"").stdout.decode().replace(",", " ").split()
        versions[tool] = next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), "unknown")
    kernel = IpvsKernel(place.make_socket, place.run)
    try:
        yield Opened(kernel, KernelView(place), versions)
    finally:
        kernel.close()


def leftovers(place: Place) -> str | None:
    """What of a proxy in this mode `place` holds already."""
    if place.run(["ip", "link", "show", "dev", check.DEVICE], b"").returncode == 0:
        return f"device {check.DEVICE}"
    if place.run(["ipvsadm", "-Sn"], b"").stdout.strip():
        return "virtual servers of IP_VS"
    return None


def clean(place: Place) -> None:
    """Remove all that this mode made: servers, device, rules, then the sets that rules held (CLN-03)."""
    place.run(["ipvsadm", "-C"], b"")
    place.run(["ip", "link", "delete", check.DEVICE], b"")
    for family in (4, 6):
        save = f"{iptables_variant(place.run, family)}-save"
        text = place.run([save], b"").stdout.decode()
        place.run([save.replace("save", "restore"), "--noflush"], _without_kube(text).encode())
    names = place.run(["ipset", "list", "-n"], b"").stdout.decode().split()
    place.run(["ipset", "restore"], "".join(f"destroy {n}\n" for n in names if n.startswith("KUBE-")).encode())


def forget_clients(place: Place) -> None:
    """Make every virtual server anew, once the kernel has let go of what it remembered of the old ones (IPVS-05).

    It does as `expire_nodest_conn` says, which this mode sets, from a work queue: since Linux 5.9.  A server's first
    client always gets the destination that was added last: by chance another one each time.
    """
    saved = place.run(["ipvsadm", "-Sn"], b"").stdout.decode().splitlines()
    servers = [line for line in saved if line.startswith("-A ")]
    destinations = [line for line in saved if line.startswith("-a ")]
    random.shuffle(destinations)
    place.run(["ipvsadm", "-C"], b"")
    until = time.monotonic() + _FORGET_SECONDS
    while len(place.run(["ipvsadm", "-Lnc"], b"").stdout.splitlines()) > _HEADINGS:
        if time.monotonic() > until:
            raise KernelError(f"IP_VS remembers clients of servers that are gone, after {_FORGET_SECONDS:g} s")
    place.run(["ipvsadm", "-R"], "".join(f"{line}\n" for line in servers + destinations).encode())


def _without_kube(saved: str) -> str:
    """Text that deletes the jumps into KUBE chains, and these chains, from what `iptables-save` printed."""
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
