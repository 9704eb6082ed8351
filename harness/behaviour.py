"""What a node does with new connections, in words that oracle and read-back share."""

from __future__ import annotations

from typing import NamedTuple

Outcome = tuple
"""("dnat", frozenset of (address, port)), ("reject",) or ("drop",)."""


class Destination(NamedTuple):
    """One address and port: the outcome for a pod, the node itself and an external client.

    `allowed` holds the sources that may use it, as (first, last) packed addresses; None is everyone.
    """

    pod: Outcome
    node: Outcome
    external: Outcome
    allowed: frozenset[tuple[bytes, bytes]] | None = None


class Behaviour(NamedTuple):
    """Destinations by (packed address, protocol, port), node ports by (protocol, port)."""

    destinations: dict[tuple[bytes, int, int], Destination]
    nodeports: dict[tuple[int, int], Destination]
    cluster_ips: frozenset[bytes]
    node_addresses: frozenset[bytes]
