"""Types for tracing: a packet, its outcome, and the rules that decided it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Packet(NamedTuple):
    """First packet of a new connection: packed addresses, IP protocol number.

    `source_local` and `destination_local`: whether the address is the node's own.  `interface` is the ingress
    interface, "" if the packet was sent by the node or the interface is irrelevant.
    """

    source: bytes
    destination: bytes
    protocol: int
    port: int
    source_local: bool = False
    destination_local: bool = False
    interface: str = ""


class Outcome(NamedTuple):
    """`kind` is dnat, reject, drop or no-op (not handled by the proxy).

    `endpoints` are all (packed address, port) that a dnat may choose; `masquerade` is whether
    the source address is replaced for any of them, including an endpoint that is the source itself.
    """

    kind: str
    endpoints: frozenset[tuple[bytes, int]] = frozenset()
    masquerade: bool = False


class Flow(NamedTuple):
    """The first packet of a connection and its expected outcome.

    `origin` is where it is sent from: pod-local, pod-other-node, external or node-host.
    """

    name: str
    origin: str
    packet: Packet
    expected: Outcome | None
    accepted: bool | None


class Trace(NamedTuple):
    """The outcome, and the rules or map elements that decided it, in order and in the tool's syntax."""

    outcome: Outcome
    steps: tuple[str, ...]


class Tracer(Protocol):
    """The rules of one mode and family, ready for tracing; `now` is the clock, in seconds."""

    now: float

    def feed(self, text: str) -> None:
        """Load the text of one program."""

    def trace(self, packet: Packet) -> Trace:
        """Follow every path that a packet may take; ValueError for unsupported rules."""

    def connect(self, packet: Packet, index: int = 0) -> Outcome:
        """Open one connection, using `index` for every random choice; session affinity is recorded."""

    def facts(self) -> dict[str, Any]:
        """Properties of the mode's rules that packets do not show, for assertions of cases."""
