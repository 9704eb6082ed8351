"""The vocabulary of tracing: a packet, what happens to it, and why."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Packet(NamedTuple):
    """First packet of a new connection; packed addresses, IP protocol number.

    `source_local` and `destination_local`: whether the node itself owns that address.  `interface` is
    where it came in, "" when it was sent by the node or does not matter.
    """

    source: bytes
    destination: bytes
    protocol: int
    port: int
    source_local: bool = False
    destination_local: bool = False
    interface: str = ""


class Outcome(NamedTuple):
    """`kind` is dnat, reject, drop or no-op (left alone).

    `endpoints` are all (packed address, port) that a dnat may choose; `masquerade` tells whether
    the source address is replaced for any of them, an endpoint that is the source itself included.
    """

    kind: str
    endpoints: frozenset[tuple[bytes, int]] = frozenset()
    masquerade: bool = False


class Trace(NamedTuple):
    """The outcome and the rules or map elements that decided it, in order, in the tool's own words."""

    outcome: Outcome
    steps: tuple[str, ...]


class Tracer(Protocol):
    """One family's rules of one mode, ready to be asked; `now` is its clock, in seconds."""

    now: float

    def trace(self, packet: Packet) -> Trace:
        """Follow one packet every way it may go; ValueError for rules it cannot read."""

    def connect(self, packet: Packet, index: int = 0) -> Outcome:
        """One connection, drawing `index` wherever something is drawn; its client is remembered."""
