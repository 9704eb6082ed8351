"""What a node does with new connections, in words that oracle and read-back share."""

from __future__ import annotations

from typing import NamedTuple

Outcome = tuple
"""("dnat", frozenset of (address, port)), ("reject",), ("drop",) or ("none",), which is left alone."""


class Destination(NamedTuple):
    """One address and port: the outcome for a pod, the node itself and an external client.

    `allowed` holds the sources that may use it, as (first, last) packed addresses; None is everyone.
    `masquerade` tells for the same three whether the source address is replaced (hairpin apart), and
    `affinity_seconds` how long a client keeps its endpoint; each None where a read-back cannot tell.
    """

    pod: Outcome
    node: Outcome
    external: Outcome
    allowed: frozenset[tuple[bytes, bytes]] | None = None
    masquerade: tuple[bool, bool, bool] | None = None
    affinity_seconds: int | None = None


class Behaviour(NamedTuple):
    """Destinations by (packed address, protocol, port), node ports by (protocol, port).

    `node_addresses` are those that take node ports, None when every local one but loopback does.
    """

    destinations: dict[tuple[bytes, int, int], Destination]
    nodeports: dict[tuple[int, int], Destination]
    cluster_ips: frozenset[bytes]
    node_addresses: frozenset[bytes] | None
