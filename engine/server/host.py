"""The machine: its addresses as the kernel tells them, its tools, files under /proc/sys.

Everything acts in the network namespace that this process runs in.
"""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from engine.model import Address

_NETLINK_ROUTE = 0
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_REQUEST, _DUMP = 1, 0x300
_ERROR, _DONE = 2, 3
_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
SYSCTL = Path("/proc/sys")
COMMAND_SECONDS = 120
NOT_INSTALLED = 127
"""Exit status of a tool that is missing, as of a shell."""


def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A tool's result; one that is missing, or hangs, has failed with a message saying so."""
    try:
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=COMMAND_SECONDS)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, NOT_INSTALLED, b"", f"{command[0]} is not installed".encode())
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(
            command, 124, b"", f"{command[0]} took longer than {COMMAND_SECONDS} s".encode()
        )


def load_module(name: str) -> None:
    """Have the kernel load a module; what cannot be loaded is found missing by whoever needs it."""
    run(["modprobe", "--quiet", name])


def has_ipv6() -> bool:
    """Whether the kernel has IPv6 at all (DS-02)."""
    return Path("/proc/net/if_inet6").exists()


class LocalAddresses:
    """All addresses of all interfaces but `ignored`, kept current by the kernel's own notices.

    `changed` is called, from this object's thread, when they differ from before.
    """

    def __init__(self, changed: Callable[[], None], ignored: str = "kube-ipvs0") -> None:
        self._changed = changed
        self._ignored = ignored
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
        self._events.bind((0, _GROUPS))
        self._addresses = self._read()
        self._closing, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="addresses", daemon=True)

    def start(self) -> None:
        """Begin to follow changes."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._wake.close()

    def __call__(self) -> tuple[Address, ...]:
        """The addresses as of now, sorted."""
        return self._addresses

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._events, self._closing], [], [])
            if self._closing in ready:
                return
            self._drain()
            if (found := self._read()) != self._addresses:
                self._addresses = found
                self._changed()

    def _drain(self) -> None:
        """What exactly changed does not matter, not even when notices were lost."""
        try:
            while True:
                self._events.recv(1 << 16, socket.MSG_DONTWAIT)
        except OSError:
            return

    def _read(self) -> tuple[Address, ...]:
        found: set[Address] = set()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as sock:
            for family in _FAMILIES:
                sock.send(struct.pack("=IHHII BBBBI", 24, _GETADDR, _REQUEST | _DUMP, 1, 0, family, 0, 0, 0, 0))
                self._collect(sock, found)
        return tuple(sorted(found))

    def _collect(self, sock: socket.socket, found: set[Address]) -> None:
        ignored = _index(self._ignored)
        while True:
            data = sock.recv(1 << 18)
            offset = 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                if kind in (_DONE, _ERROR):
                    return
                if kind == _NEWADDR and struct.unpack_from("=I", data, offset + 20)[0] != ignored:
                    address = _address(data[offset + 24 : offset + length])
                    if address:
                        found.add(address)
                offset += (length + 3) & ~3


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


def _address(attributes: bytes) -> Address | None:
    """IFA_LOCAL where there is one (point to point links), else IFA_ADDRESS."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, offset)
        found[kind] = attributes[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)


def read_sysctl(name: str) -> str | None:
    """A value under /proc/sys, None when this kernel has no such entry; `name` with slashes."""
    try:
        return (SYSCTL / name).read_text().strip()
    except FileNotFoundError:
        return None


def write_sysctl(name: str, value: int) -> None:
    """Set a value unless it is so already; OSError when refused."""
    if read_sysctl(name) != str(value):
        (SYSCTL / name).write_text(f"{value}\n")
