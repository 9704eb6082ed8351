"""A userspace program: frontends, their endpoint sets, and local addresses, as one JSON object.

Its JSON is hashed, sent to the proxy process, and shown to people.  Frontends are named
`10.96.0.1:80/tcp`, `[fd00::1]:80/udp`, or `*:30080/tcp` for a node port on every node address.
"""

from __future__ import annotations

import hashlib

import msgspec

from engine.addresses import format_address
from engine.model import PROTOCOL_NAMES, Address
from engine.program import Section

NODE = "*"
"""Stands for every node address in a frontend's name."""


class EndpointSet(msgspec.Struct, frozen=True):
    """Targets as `address:port`, and the affinity timeout; 0 means no affinity."""

    targets: tuple[str, ...]
    affinity_seconds: int = 0


class Rule(msgspec.Struct, frozen=True):
    """The endpoint set for this node and its pods, and for external clients; None rejects them."""

    inside: str | None
    outside: str | None


class UserspaceProgram(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Changes since the last sync of one family; the first program is complete.

    `pods`: CIDR that identifies pods, "" if there is none; only in the first program, which replaces the
    proxy's whole state.  `allowed` has the complete list of sources of a frontend; an empty list removes the
    restriction.  `node_addresses` accept node ports; None means no change.  Deletions are applied after additions.
    """

    family: int
    pods: str | None = None
    node_addresses: tuple[str, ...] | None = None
    addresses_added: tuple[str, ...] = ()
    addresses_deleted: tuple[str, ...] = ()
    sets: dict[str, EndpointSet] = {}
    rules: dict[str, Rule] = {}
    allowed: dict[str, tuple[str, ...]] = {}
    rules_deleted: tuple[str, ...] = ()
    sets_deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.complete or self.node_addresses is not None or self.operations)

    @property
    def complete(self) -> bool:
        """Whether it is a first program."""
        return self.pods is not None

    @property
    def operations(self) -> int:
        """Addresses, sets, frontends and source lists set and deleted."""
        parts = (
            self.addresses_added, self.addresses_deleted, self.sets, self.rules, self.allowed,
            self.rules_deleted, self.sets_deleted,
        )  # fmt: skip
        return sum(map(len, parts))

    def digest(self) -> bytes:
        """SHA-256 of the JSON."""
        return hashlib.sha256(self.encoded()).digest()

    def encoded(self) -> bytes:
        """The JSON sent to the proxy process."""
        return msgspec.json.encode(self)

    def sections(self) -> tuple[Section, ...]:
        """One section, for no tool."""
        return (Section("", self.text()),)

    def text(self) -> str:
        """The JSON, indented."""
        return msgspec.json.format(self.encoded(), indent=2).decode() + "\n"


def frontend_name(address: Address | None, protocol: int, port: int) -> str:
    """The name of a frontend; None stands for every node address."""
    return f"{host_name(format_address(address)) if address else NODE}:{port}/{PROTOCOL_NAMES[protocol]}"


def host_name(address: str) -> str:
    """An address in the form used before a port."""
    return f"[{address}]" if ":" in address else address
