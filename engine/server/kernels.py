"""A mode's real kernel on this machine: checked beforehand, opened, asked whether its rules still stand."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.backends.ipvs.program import DEVICE
from engine.backends.ipvs.sets import CLUSTER_IP, full_name
from engine.kernel.base import Kernel, KernelError
from engine.kernel.conntrack import ConntrackTable
from engine.kernel.iptables import IptablesKernel
from engine.kernel.iptables.variant import WAIT, detect, tool
from engine.kernel.ipvs import IpvsKernel
from engine.kernel.ipvs.real import iptables_variant
from engine.kernel.nftables import NftablesKernel
from engine.server.host import has_ipv6, load_module, run

_NETLINK_NETFILTER = 12
_TERMINATION_SECONDS = 60.0
SKIP_KERNEL_CHECK = "KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK"


class PreflightError(RuntimeError):
    """This machine cannot do the mode asked for; there is no fallback (MODE-03, CMP-19)."""


@dataclass(frozen=True)
class Opened:
    """`intact(family)` says whether rules still stand.

    `chores` are (period in seconds, work) that the mode needs from time to time.
    """

    kernel: Kernel
    intact: Callable[[int], bool]
    chores: tuple[tuple[float, Callable[[], object]], ...] = ()


def open_kernel(mode: str) -> Opened:
    """The kernel of a mode; PreflightError when the machine lacks what it needs."""
    try:
        return _OPENERS[mode]()
    except KernelError as error:
        raise PreflightError(str(error)) from None


def open_conntrack() -> ConntrackTable:
    """The kernel's table of connections."""
    return ConntrackTable(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER))


def families(mode: str, primary: int) -> tuple[int, ...]:
    """The families that this machine supports, the primary one first (DS-02)."""
    able = [family for family in (4, 6) if _supports(mode, family)]
    if not able:
        raise PreflightError("iptables is not available on this host")
    if primary not in able:
        raise PreflightError(f'no support for primary IP family "IPv{primary}"')
    return tuple(sorted(able, key=lambda family: family != primary))


def _supports(mode: str, family: int) -> bool:
    if family == 6 and not has_ipv6():
        return False
    if mode == "nftables":
        return True
    command = [tool(detect(run), family), *WAIT, "-t", "nat", "-S", "POSTROUTING"]
    return run(command).returncode == 0


def _nftables() -> Opened:
    done = run(["nft", "--version"])
    version = _version(done.stdout.decode())
    if done.returncode or version < (1, 0, 1):
        raise PreflightError(f"nftables mode needs nft 1.0.1 or later: {(done.stdout or done.stderr).decode().strip()}")
    if not os.environ.get(SKIP_KERNEL_CHECK) and _version(platform.release()) < (5, 13):
        raise PreflightError("kube-proxy in nftables mode requires kernel 5.13 or later")
    kernel = NftablesKernel(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER), run)
    return Opened(kernel, kernel.intact)


def _iptables() -> Opened:
    kernel = IptablesKernel(run)
    return Opened(kernel, kernel.intact)


def _ipvs() -> Opened:
    done = run(["ipset", "--version"])
    if done.returncode or _version(done.stdout.decode()) < (6, 0):
        found = _word(done.stdout.decode()) or done.stderr.decode().strip()
        raise PreflightError(
            f"can't use the IPVS proxier: ipset version: {found} is less than min required version: 6.0"
        )
    load_module("ip_vs")  # schedulers and the rest are loaded by the kernel itself
    kernel = IpvsKernel(socket.socket, run)
    return Opened(kernel, partial(_ipvs_intact, kernel), ((_TERMINATION_SECONDS, kernel.terminate),))


def _ipvs_intact(kernel: IpvsKernel, family: int) -> bool:
    """Whether a family's parts are there: device, sets, chains, and as many virtual servers as were made."""
    sets = run(["ipset", "list", "-n"]).stdout.decode().split()
    tool = iptables_variant(run, family)
    return (
        _virtual_servers(family) >= kernel.servers.get(family, 0)
        and full_name(family, CLUSTER_IP) in sets
        and run(["ip", "link", "show", "dev", DEVICE]).returncode == 0
        and run([tool, "-t", "nat", "-S", "KUBE-SERVICES"]).returncode == 0
    )


def _virtual_servers(family: int) -> int:
    """By /proc/net/ip_vs, where an IPv6 address is in brackets."""
    try:
        listed = Path("/proc/net/ip_vs").read_text().splitlines()
    except OSError:
        return 0
    ours = [line for line in listed if line.startswith(("TCP ", "UDP ", "SCTP "))]
    return sum(("[" in line) == (family == 6) for line in ours)


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, _word(text).split("."))) if _word(text) else (0,)


def _word(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else ""


_OPENERS: dict[str, Callable[[], Opened]] = {"iptables": _iptables, "ipvs": _ipvs, "nftables": _nftables}
