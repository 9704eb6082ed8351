"""nftables mode: tables `ip kube-proxy` and `ip6 kube-proxy`."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from engine.kernel.nftables import NftablesKernel, NftablesMemory
from harness.behaviour import Behaviour
from harness.check import readback
from harness.check.meaning import meaning
from harness.modes.place import Opened, Place

COMMANDS = {"nft": "nftables"}
"""Programs that must be there, and the packages that bring them."""

NOT_IN_UML = "Debian's user-mode Linux has no nf_tables families ip and ip6"
"""Why the mode cannot run there."""

SETS = (
    "services", "external-services", "local-services", "short-circuits", "nodeports", "local-nodeports",
    "short-circuit-nodeports", "cluster-ips", "reject-services", "drop-services", "reject-nodeports",
    "drop-nodeports", "nodeport-ips", "firewalled", "firewall-allowed",
    "tcp-endpoints", "udp-endpoints", "sctp-endpoints", "picks", "affinity-picks", "affinity-slots",
    "affinity-members", "affinity-tcp", "affinity-udp", "affinity-sctp",
)  # fmt: skip
_NETLINK_NETFILTER = 12


class MemoryView:
    """What a `NftablesMemory` holds."""

    def __init__(self, kernel: NftablesMemory) -> None:
        self._kernel = kernel

    def behaviour(self, family: int) -> Behaviour | None:
        """As `View.behaviour`."""
        found = self._kernel.tables.get(family)
        return meaning(family, {name: dict(found.get(name, {})) for name in SETS}) if found else None


class KernelView:
    """What the kernel's own tables hold, read by netlink."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def behaviour(self, family: int) -> Behaviour | None:
        """As `View.behaviour`."""
        try:
            return meaning(family, {name: readback.dump(self._sock, family, name) for name in SETS})
        except readback.NoSuchSet:
            return None


def memory() -> Opened:
    """A kernel that only remembers."""
    kernel = NftablesMemory()
    return Opened(kernel, MemoryView(kernel), {})


@contextmanager
def real(place: Place) -> Iterator[Opened]:
    """The kernel of `place`; one socket writes, another reads back."""
    words = place.run(["nft", "--version"], b"").stdout.decode().split()
    with _netlink(place) as sock, _netlink(place) as reader:
        yield Opened(NftablesKernel(sock, place.run), KernelView(reader), {"nft": words[1].lstrip("v")})


def leftovers(place: Place) -> str | None:
    """What of a proxy in this mode `place` holds already."""
    for family in ("ip", "ip6"):
        if place.run(["nft", "list", "table", family, "kube-proxy"], b"").returncode == 0:
            return f"table `{family} kube-proxy`"
    return None


def clean(place: Place) -> None:
    """Remove all that this mode made."""
    for family in ("ip", "ip6"):
        place.run(["nft", "delete", "table", family, "kube-proxy"], b"")


def forget_clients(place: Place) -> None:
    """Empty the maps in which rules remember clients (AFF)."""
    for family in ("ip", "ip6"):
        listed = place.run(["nft", "-t", "list", "maps", family], b"").stdout.decode()
        names = re.findall(r"map (affinity-clients-\d+)", listed)
        script = "".join(f"flush map {family} kube-proxy {name}\n" for name in names)
        if script:
            place.run(["nft", "-f", "-"], script.encode())


def _netlink(place: Place) -> socket.socket:
    return place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
