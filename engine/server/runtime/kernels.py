"""The real kernel of a mode on this machine: preflight checks, opening, and checks that its rules still exist."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from engine.config import NEWEST, ProxyConfig
from engine.kernel.conntrack import ConntrackTable
from engine.kernel.interface import Intact, KernelError, KernelOfMode
from engine.kernel.iptables import IptablesKernel
from engine.kernel.iptables.variant import LOCKED, WAIT, detect, tool
from engine.kernel.ipvs import IpvsKernel
from engine.kernel.netlink import NETFILTER
from engine.kernel.nftables import NftablesKernel
from engine.kernel.tools import answered, run
from engine.modes import MODES
from engine.server.runtime.host import has_ipv6, load_module

_TERMINATION_SECONDS = 60.0
REASON_SINCE = (1, 34)
"""Since this version the error about iptables includes the tool's own message (DS-02b)."""
SKIP_KERNEL_CHECK = "KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK"


class PreflightError(RuntimeError):
    """This machine does not support the requested mode; there is no fallback (MODE-03, CMP-19)."""


@dataclass(frozen=True)
class OpenedKernel:
    """An open kernel; `intact(family)` checks whether its rules still exist.

    `chores` are (period in seconds, work) to be run periodically for the mode.
    """

    kernel: KernelOfMode
    intact: Callable[[int], Intact]
    chores: tuple[tuple[float, Callable[[], object]], ...] = ()


def open_kernel(mode: str, able: Collection[int]) -> OpenedKernel:
    """The kernel of a mode, for these families; PreflightError if the machine does not meet its requirements."""
    try:
        return _OPENERS[mode](able)
    except KernelError as error:
        raise PreflightError(str(error)) from None


def open_conntrack() -> ConntrackTable:
    """The kernel's conntrack table."""
    return ConntrackTable(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER))


def rejected_on_loopback(able: tuple[int, ...], config: ProxyConfig) -> dict[tuple[int, str], int]:
    """Packets to node ports on loopback that mode nftables rejected, by family and protocol (MET-03b)."""
    found = {}
    for family in able:
        done = run(["nft", "--json", "list", "counters", "table", "ip" if family == 4 else "ip6", "kube-proxy"])
        listed = json.loads(done.stdout)["nftables"] if done.returncode == 0 else []
        counters = {each["counter"]["name"]: each["counter"]["packets"] for each in listed if "counter" in each}
        for protocol in ("tcp", "udp", "sctp"):
            if protocol != "tcp" or not config.localhost_served(family):
                found[family, protocol] = counters.get(f"localhost-nodeport-rejected-{protocol}", 0)
    return found


def families(mode: str, primary: int, version: tuple[int, int] = NEWEST) -> tuple[int, ...]:
    """The families that this machine supports, the primary one first (DS-02)."""
    try:
        lacking = {family: _lacking(mode, family) for family in (4, 6)}
    except KernelError as error:
        raise PreflightError(str(error)) from None
    able = [family for family, why in lacking.items() if why is None]
    if not able:
        reason = f": {lacking[primary]}" if version >= REASON_SINCE else ""
        raise PreflightError(f"iptables is not available on this host{reason}")
    if primary not in able:
        raise PreflightError(f'no support for primary IP family "IPv{primary}"')
    return tuple(sorted(able, key=lambda family: family != primary))


def _lacking(mode: str, family: int) -> str | None:
    """Why this machine does not support a family, None if it does."""
    if family == 6 and not has_ipv6():
        return "IPv6 is disabled"
    if not MODES[mode].needs_iptables:
        return None
    variant = detect(run)
    done = answered(run([tool(variant, family), *WAIT, "-t", "nat", "-S", "POSTROUTING"]))
    if done.returncode == 0 or (variant == "legacy" and done.returncode == LOCKED):
        return None
    return " ".join(done.stderr.decode(errors="replace").split())


def _nftables(able: Collection[int]) -> OpenedKernel:
    done = answered(run(["nft", "--version"]))
    version = _version(done.stdout.decode())
    if done.returncode or version < (1, 0, 1):
        raise PreflightError(f"nftables mode needs nft 1.0.1 or later: {(done.stdout or done.stderr).decode().strip()}")
    if not os.environ.get(SKIP_KERNEL_CHECK) and _version(platform.release()) < (5, 13):
        raise PreflightError("kube-proxy in nftables mode requires kernel 5.13 or later")
    kernel = NftablesKernel(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER), run)
    return _probed(kernel, able)


def _iptables(able: Collection[int]) -> OpenedKernel:
    return _probed(IptablesKernel(run), able)


def _probed(kernel: NftablesKernel | IptablesKernel | IpvsKernel, able: Collection[int]) -> OpenedKernel:
    if lacking := kernel.missing(able):
        raise PreflightError(lacking)
    return OpenedKernel(kernel, kernel.intact)


def _ipvs(able: Collection[int]) -> OpenedKernel:
    done = answered(run(["ipset", "--version"]))
    if done.returncode or _version(done.stdout.decode()) < (6, 0):
        found = _word(done.stdout.decode()) or done.stderr.decode().strip()
        raise PreflightError(
            f"can't use the IPVS proxier: ipset version: {found} is less than min required version: 6.0"
        )
    load_module("ip_vs")  # the kernel loads schedulers and other modules itself
    kernel = IpvsKernel(socket.socket, run)
    return replace(_probed(kernel, able), chores=((_TERMINATION_SECONDS, kernel.terminate),))


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, _word(text).split("."))) if _word(text) else (0,)


def _word(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else ""


_OPENERS: dict[str, Callable[[Collection[int]], OpenedKernel]] = {
    "iptables": _iptables,
    "ipvs": _ipvs,
    "nftables": _nftables,
}
