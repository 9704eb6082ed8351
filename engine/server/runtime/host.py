"""The machine: its addresses as reported by the kernel, kernel modules, files under /proc/sys.

Everything applies to the network namespace of this process.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from engine.kernel.interface import KernelError
from engine.kernel.links import addresses, index_of
from engine.kernel.netlink import ROUTE, Connection, Subscription
from engine.kernel.tools import run
from engine.model import ADDRESS_BYTES, Address

_GROUPS = 5, 9  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_AGAIN_SECONDS = 1.0
SYSCTL = Path("/proc/sys")
IPV6_ADDRESSES = Path("/proc/net/if_inet6")

_log = logging.getLogger(__name__)


def load_module(name: str) -> None:
    """Load a kernel module; a failure is ignored, as later checks report missing features."""
    run(["modprobe", "--quiet", name])


def has_ipv6() -> bool:
    """Whether the kernel has IPv6, and it is not disabled on all interfaces (DS-02, DS-02a)."""
    return IPV6_ADDRESSES.exists() and read_sysctl("net/ipv6/conf/all/disable_ipv6") != "1"


class LocalAddresses:
    """All addresses of all interfaces except `ignored`, updated by kernel notifications.

    `changed` is called from this object's thread when they differ from before.
    """

    def __init__(self, changed: Callable[[], None], ignored: str = "kube-ipvs0") -> None:
        self._changed = changed
        self._ignored = ignored
        self._notices = Subscription(_netlink(), _GROUPS)
        self._kernel = Connection(_netlink())
        self._addresses = self._read()
        self._thread = threading.Thread(target=self._watch, name="addresses", daemon=True)

    def start(self) -> None:
        """Begin to follow changes."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._notices.close()

    def __call__(self) -> tuple[Address, ...]:
        """The addresses as of now, sorted."""
        return self._addresses

    def _watch(self) -> None:
        """Read all addresses again after any notification, so that lost ones do not matter; retry failed reads."""
        seconds = None
        while True:
            try:
                if self._notices.receive(seconds) is None:
                    return
                found = self._read()
                seconds = None
            except KernelError as error:
                _log.error("Failed to read the machine's addresses, will retry: %s", error)
                time.sleep(_AGAIN_SECONDS)
                seconds = 0
                continue
            if found != self._addresses:
                self._addresses = found
                self._changed()

    def _read(self) -> tuple[Address, ...]:
        ignored = index_of(self._kernel, self._ignored)
        found = [each for family in ADDRESS_BYTES for each in addresses(self._kernel, family)]
        return tuple(sorted({address for index, address in found if index != ignored}))


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, ROUTE)


def read_sysctl(name: str) -> str | None:
    """A value under /proc/sys, None if the kernel has no such entry; `name` uses slashes."""
    try:
        return (SYSCTL / name).read_text().strip()
    except FileNotFoundError:
        return None


def write_sysctl(name: str, value: int) -> None:
    """Set a value unless it is already set; OSError on failure."""
    if read_sysctl(name) != str(value):
        (SYSCTL / name).write_text(f"{value}\n")
