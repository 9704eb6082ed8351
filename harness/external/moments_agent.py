"""Run as a separate process: reports when the rules of one network namespace change.

Started by `harness.external.moments` with the descriptors of a netlink socket and two raw sockets, and the pid of a
process in the namespace.  It receives the kernel's notifications, and polls what has none: the number of entries in
tables of iptables-legacy, and the content of IP_VS.  Each change is one line: the time on the monotonic clock in
seconds, and its source.  It ends at the end of its standard input.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from engine.kernel.netlink import NEW_GENERATION, NFTABLES_GROUP, Subscription

POLL_SECONDS, IDLE_SECONDS = 0.001, 0.1
RESTING = 3.0
"""The pause between two polls, as a multiple of a poll's duration: polling must not take CPU time from the proxy."""
_BUFFER_BYTES = 32 << 20
_GET_INFO = 64
_TABLES = (b"nat", b"filter")
_INFO_BYTES, _COUNTED_AT = 84, 76
_LEVELS = {"ip_tables_names": socket.IPPROTO_IP, "ip6_tables_names": socket.IPPROTO_IPV6}


class LegacyTables:
    """Entries and bytes of the existing tables of iptables-legacy; polling must not create one."""

    def __init__(self, sockets: dict[str, socket.socket], pid: int) -> None:
        self._sockets, self._pid = sockets, pid
        self._libc = ctypes.CDLL(None, use_errno=True)

    @property
    def there(self) -> bool:
        """Whether there is any table."""
        return any(self._names(name) for name in _LEVELS)

    def look(self) -> object:
        """A value to compare with a later one."""
        return [self._info(name, table) for name in _LEVELS for table in self._names(name)]

    def _names(self, name: str) -> list[bytes]:
        with suppress(OSError):
            held = Path(f"/proc/{self._pid}/net/{name}").read_bytes().split()
            return [table for table in _TABLES if table in held]
        return []

    def _info(self, name: str, table: bytes) -> bytes:
        buffer = ctypes.create_string_buffer(table, _INFO_BYTES)
        length = ctypes.c_uint32(_INFO_BYTES)
        self._libc.getsockopt(self._sockets[name].fileno(), _LEVELS[name], _GET_INFO, buffer, ctypes.byref(length))
        return buffer.raw[_COUNTED_AT:]


class VirtualServers:
    """The content of IP_VS without connection counts."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/net/ip_vs")

    @property
    def there(self) -> bool:
        """Whether the kernel has IP_VS."""
        return self._path.exists()

    def look(self) -> object:
        """A value to compare with a later one."""
        digest = hashlib.blake2b()
        with suppress(OSError):
            for line in self._path.read_bytes().splitlines():
                words = line.split()
                digest.update(b" ".join(words[:-2] if words[:1] == [b"->"] else words))
        return digest.digest()


class Polled:
    """Something that is polled."""

    def __init__(self, source: str, what: LegacyTables | VirtualServers) -> None:
        self._source, self._what = source, what
        self._held: object = None
        self._due = 0.0

    def poll(self) -> float:
        """Report a change, if any; returns the seconds until the next poll."""
        now = time.monotonic()
        if now < self._due:
            return self._due - now
        if not self._what.there:
            self._due = now + IDLE_SECONDS
            return IDLE_SECONDS
        held = self._what.look()
        seen = time.monotonic()
        if held != self._held:
            self._held = held
            report(seen, self._source)
        wait = max(POLL_SECONDS, RESTING * (seen - now))
        self._due = seen + wait
        return wait


def report(at: float, source: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{at:.9f} {source}\n")
    sys.stdout.flush()


def hear(rules: Subscription) -> None:
    """Report each pending new generation of nf_tables."""
    while (notices := rules.receive(0)) and (notices.messages or notices.lost):
        at = time.monotonic()
        if notices.lost or any(message.kind == NEW_GENERATION for message in notices.messages):
            report(at, "nf_tables")


def main(descriptors: list[int], pid: int) -> None:
    """Run until the end of standard input."""
    with suppress(PermissionError):
        os.nice(-10)  # timestamps must be those of the kernel on a busy machine too
    netlink, *raw = (socket.socket(fileno=number) for number in descriptors)
    rules = Subscription(netlink, [NFTABLES_GROUP], _BUFFER_BYTES)
    polled = [Polled("ip_tables", LegacyTables(dict(zip(_LEVELS, raw, strict=True)), pid))]
    polled.append(Polled("ip_vs", VirtualServers(pid)))
    poll = select.poll()
    poll.register(netlink, select.POLLIN)
    poll.register(0, select.POLLIN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        wait = min(each.poll() for each in polled)
        for descriptor, _ in poll.poll(max(1.0, wait * 1000)):
            if descriptor == 0:
                return
            hear(rules)


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:4]], int(sys.argv[4]))
