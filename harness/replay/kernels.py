"""Where a replay's rules go: a throwaway namespace, memory, or (only when spelled out) the host."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.kernel.base import Kernel, KernelError
from engine.kernel.memory import MemoryKernel
from engine.kernel.nftables import NETLINK_NETFILTER, NftablesKernel
from harness.check import readback
from harness.namespace import Namespace, NamespaceError

Tables = dict[str, dict[bytes, bytes]]
SETS = (
    "services", "external-services", "local-services", "short-circuits", "nodeports", "local-nodeports",
    "short-circuit-nodeports", "cluster-ips", "reject-services", "drop-services", "reject-nodeports",
    "drop-nodeports", "nodeport-ips", "firewalled", "firewall-allowed",
    "tcp-endpoints", "udp-endpoints", "sctp-endpoints",
)  # fmt: skip


class KernelUnavailable(RuntimeError):
    """The kernel asked for is not to be had; the message names the way out."""


@dataclass
class Opened:
    """A kernel, what to print of it, and a socket to read it back with (None in memory)."""

    kernel: Kernel
    facts: dict[str, str]
    reader: socket.socket | None

    def tables(self, family: int) -> Tables | None:
        """All elements of one family as they are now; None when nothing of it was programmed."""
        if isinstance(self.kernel, MemoryKernel):
            found = self.kernel.tables.get(family)
            return merged({name: dict(found.get(name, {})) for name in SETS}) if found else None
        try:
            return merged({name: readback.dump(self.reader, family, name) for name in SETS})
        except readback.KernelReadError:
            return None


def merged(tables: Tables) -> Tables:
    """One `endpoints` map out of the three that hold a protocol each (ids are unique among them)."""
    endpoints: dict[bytes, bytes] = {}
    for protocol in ("tcp", "udp", "sctp"):
        endpoints |= tables.pop(f"{protocol}-endpoints")
    return {**tables, "endpoints": endpoints}


@contextmanager
def open_kernel(kind: str) -> Iterator[Opened]:
    """`kind` is auto, netns, memory or host. Raises KernelUnavailable."""
    if kind == "memory":
        yield Opened(MemoryKernel(), {"kind": "memory"}, None)
    elif kind == "host":
        yield from _host()
    else:
        yield from _namespace(fall_back=kind == "auto")


def _namespace(fall_back: bool) -> Iterator[Opened]:
    reason = None if shutil.which("nft") else "nft is not installed (package nftables)"
    if reason is None:
        namespace = Namespace()
        try:
            namespace.__enter__()
        except NamespaceError as error:
            reason = str(error)
    if reason is not None:
        if not fall_back:
            raise KernelUnavailable(reason)
        yield Opened(MemoryKernel(), {"kind": "memory", "reason": reason}, None)
        return
    try:
        facts = _facts("netns")
        with _netlink(namespace.socket) as sock, _netlink(namespace.socket) as reader:
            yield Opened(NftablesKernel("netns", sock, namespace.run), facts, reader)
    finally:
        namespace.__exit__()


def _host() -> Iterator[Opened]:
    if os.geteuid() != 0:
        raise KernelUnavailable("--kernel host programs this machine's own rules and needs root")

    def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, input=stdin, capture_output=True, check=False)

    if run(["nft", "list", "table", "ip", "kube-proxy"]).returncode == 0:
        raise KernelUnavailable("this host has a table `ip kube-proxy` already: a proxy runs here")
    try:
        with _netlink(socket.socket) as sock, _netlink(socket.socket) as reader:
            yield Opened(NftablesKernel("host", sock, run), _facts("host"), reader)
    finally:
        for family in ("ip", "ip6"):
            run(["nft", "delete", "table", family, "kube-proxy"])


def _netlink(make) -> socket.socket:
    return make(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)


def _facts(kind: str) -> dict[str, str]:
    version = subprocess.run(["nft", "--version"], capture_output=True, text=True, check=False).stdout
    words = version.split()
    return {"kind": kind, "release": platform.release(), "nft": words[1].lstrip("v") if len(words) > 1 else "?"}


__all__ = ["KernelError", "KernelUnavailable", "Opened", "open_kernel"]
