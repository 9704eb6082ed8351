"""A userspace program: frontends, the endpoint sets they lead to, and local addresses, as one JSON object.

Its JSON is what is hashed, what the proxy process is sent, and what people read.  Frontends are named
`10.96.0.1:80/tcp`, `[fd00::1]:80/udp`, or `*:30080/tcp` for a node port on every node address.
"""

from __future__ import annotations

import hashlib

import msgspec

from engine.addresses import format_address
from engine.model import PROTOCOLS, Address, Target
from engine.program import Section

PROTOCOL_NAMES = {number: name.lower() for name, number in PROTOCOLS.items()}
NODE = "*"
"""Stands for every node address in a frontend's name."""


class EndpointSet(msgspec.Struct, frozen=True):
    """Targets as `address:port`, and how long a client stays with its own; 0 is not at all."""

    targets: tuple[str, ...]
    affinity_seconds: int = 0


class Rule(msgspec.Struct, frozen=True):
    """The endpoint set for clients of this node and its pods, and for all others; None refuses them."""

    inside: str | None
    outside: str | None


class UserspaceProgram(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What differs since the last sync of one family; the first one is everything.

    `pods`: CIDR by which pods are told, "" where there is none; first program only, which stands for
    itself: whatever the proxy held before and it does not name is gone.  `allowed` holds the
    complete list of sources of a frontend, an empty one lifts the restriction.  `node_addresses` take
    node ports; None is no change.  What is deleted comes after what replaces it.
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
        """The JSON as the proxy process is sent it."""
        return msgspec.json.encode(self)

    def sections(self) -> tuple[Section, ...]:
        """One, which no tool takes."""
        return (Section("", self.text()),)

    def text(self) -> str:
        """The JSON, indented."""
        return msgspec.json.format(self.encoded(), indent=2).decode() + "\n"


def frontend_name(address: Address | None, protocol: int, port: int) -> str:
    """The name of a frontend; None is every node address."""
    return f"{host_name(format_address(address)) if address else NODE}:{port}/{PROTOCOL_NAMES[protocol]}"


def target_name(target: Target) -> str:
    """`10.0.0.1:80` or `[fd00::1]:80`."""
    return f"{host_name(format_address(target[:-2]))}:{target[-2] << 8 | target[-1]}"


def host_name(address: str) -> str:
    """An address as it stands before a port."""
    return f"[{address}]" if ":" in address else address
