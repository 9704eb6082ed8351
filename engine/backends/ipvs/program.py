"""An ipvs program: additions to and deletions from IP_VS, the dummy device, ipsets and iptables.

A virtual server's key is packed address, protocol (1 byte) and port (2 bytes, big endian).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.addresses import format_address, socket_text
from engine.backends.ipvs.sets import TYPES, create_line, full_name
from engine.model import PROTOCOL_NAMES, Address, Network, Target
from engine.program import Section

DEVICE = "kube-ipvs0"
PERSISTENT, SCHEDULER_PORT = 0x1, 0x10

ServerKey = bytes
Entry = tuple[str, str]
"""Set (short name) and entry text."""


class VirtualServer(NamedTuple):
    """Parameters of a virtual server in IP_VS, without its destinations."""

    scheduler: str
    flags: int = 0
    timeout_seconds: int = 0


class Start(NamedTuple):
    """The part that only the first program of a family has.

    `excluded`: networks whose virtual servers are left alone (IPVS-09). `timeouts_seconds`: TCP,
    TCP after FIN, UDP; 0 keeps the kernel's value.  `jumps`: (table, `-A CHAIN ...`) to ensure.
    """

    sysctls: tuple[tuple[str, str], ...]
    timeouts_seconds: tuple[int, int, int]
    excluded: tuple[Network, ...]
    jumps: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IpvsProgram:
    """One sync of one family, in the order it is applied; `rules` is text for iptables-restore."""

    family: int
    start: Start | None = None
    entries_added: tuple[Entry, ...] = ()
    rules: str = ""
    addresses_added: tuple[Address, ...] = ()
    servers_added: tuple[tuple[ServerKey, VirtualServer], ...] = ()
    servers_changed: tuple[tuple[ServerKey, VirtualServer], ...] = ()
    destinations_added: tuple[tuple[ServerKey, Target], ...] = ()
    destinations_deleted: tuple[tuple[ServerKey, Target], ...] = ()
    servers_deleted: tuple[ServerKey, ...] = ()
    addresses_deleted: tuple[Address, ...] = ()
    entries_deleted: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.start or self.rules or self.operations)

    @property
    def operations(self) -> int:
        """Virtual servers, destinations, addresses and set entries added, changed and deleted."""
        return sum(len(part) for part in self._parts())

    def _parts(self) -> tuple[tuple[Any, ...], ...]:
        return (
            self.entries_added, self.addresses_added, self.servers_added, self.servers_changed,
            self.destinations_added, self.destinations_deleted, self.servers_deleted,
            self.addresses_deleted, self.entries_deleted,
        )  # fmt: skip

    def digest(self) -> bytes:
        """SHA-256 over every part in order, each length-framed."""
        sha = hashlib.sha256(f"{self.family} {self.start} {len(self.rules)} {self.rules}".encode())
        for part in self._parts():
            sha.update(f"{len(part)}\n".encode())
            if part and isinstance(part[0], bytes):
                sha.update(b"".join(part))
            elif part and isinstance(part[0][1], bytes):
                sha.update(b"".join([key + target for key, target in part]))
            else:
                sha.update(repr(part).encode())
        return sha.digest()

    def text(self) -> str:
        """All sections, each under its command as a comment."""
        return "".join(f"# {command}\n{text}" for command, text in self.sections())

    def sections(self) -> tuple[Section, ...]:
        """For sysctl, `ipset restore`, `iptables-restore --noflush`, `ip -batch` and `ipvsadm -R`."""
        restore = "iptables-restore" if self.family == 4 else "ip6tables-restore"
        sections = (
            ("sysctl -p -", self._sysctl_lines()),
            ("ipset restore", self.ipset_lines()),
            (f"{restore} --noflush", iter([restore_text(self.rules, self.start.jumps if self.start else ())])),
            ("ip -batch -", self._address_lines("add", self.addresses_added)),
            ("ipvsadm -R", self.server_lines()),
            ("ip -batch -", self._address_lines("del", self.addresses_deleted)),
            ("ipset restore", self.ipset_deletions()),
        )
        found = ((title, "".join(f"{line}\n" for line in lines if line)) for title, lines in sections)
        return tuple(Section(title, body) for title, body in found if body)

    def _sysctl_lines(self) -> Iterator[str]:
        for name, value in self.start.sysctls if self.start else ():
            yield f"{name} = {value}"

    def ipset_lines(self) -> Iterator[str]:
        """Sets to create and entries to add, as `ipset restore` reads them."""
        if self.start:
            yield from (create_line(self.family, name) for name in TYPES)
        names = {name: full_name(self.family, name) for name in TYPES}
        yield from (f"add {names[name]} {entry}" for name, entry in self.entries_added)

    def ipset_deletions(self) -> Iterator[str]:
        """Entries to delete, as `ipset restore` reads them."""
        yield from (f"del {full_name(self.family, name)} {entry}" for name, entry in self.entries_deleted)

    def _address_lines(self, verb: str, addresses: tuple[Address, ...]) -> Iterator[str]:
        if self.start and verb == "add":
            yield f"link add {DEVICE} type dummy"
        for address in addresses:
            yield f"address {verb} {format_address(address)}/{8 * len(address)} dev {DEVICE}"

    def server_lines(self) -> Iterator[str]:
        """The IP_VS part, as `ipvsadm -R` reads it."""
        if self.start and any(self.start.timeouts_seconds):
            yield "--set " + " ".join(map(str, self.start.timeouts_seconds))
        for verb, servers in (("-A", self.servers_added), ("-E", self.servers_changed)):
            for key, server in servers:
                yield f"{verb} {_server(key)} {_options(server, len(key))}"
        for key, target in self.destinations_added:
            yield f"-a {_server(key)} -r {socket_text(target)} -m -w 1"
        for key, target in self.destinations_deleted:
            yield f"-d {_server(key)} -r {socket_text(target)}"
        for key in self.servers_deleted:
            yield f"-D {_server(key)}"


def server_key(address: Address, protocol: int, port: int) -> ServerKey:
    """The key of a virtual server."""
    return address + bytes((protocol, port >> 8, port & 0xFF))


def restore_text(rules: str, jumps: tuple[tuple[str, str], ...]) -> str:
    """`rules` with the jumps from the built-in chains put first in those chains, before each COMMIT."""
    if not rules:
        return ""
    tables = []
    for block in rules.rstrip("\n").removesuffix("COMMIT").split("COMMIT\n"):
        table = block[1 : block.index("\n")]
        # Each is inserted at the top, so the last one is inserted first.
        lines = [f"{line.replace('-A', '-I', 1)}\n" for name, line in reversed(jumps) if name == table]
        tables.append(block + "".join(lines) + "COMMIT\n")
    return "".join(tables).rstrip("\n")


def _server(key: ServerKey) -> str:
    flag = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}[PROTOCOL_NAMES[key[-3]]]
    return f"{flag} {socket_text(key[:-3] + key[-2:])}"


def _options(server: VirtualServer, key_bytes: int) -> str:
    text = f"-s {server.scheduler}"
    if server.flags & PERSISTENT:
        text += f" -p {server.timeout_seconds}" + (" -M 128" if key_bytes > 7 else "")
    if server.flags & SCHEDULER_PORT:
        text += f" -b {server.scheduler}-port"
    return text
