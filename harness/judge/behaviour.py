"""A node's treatment of new connections: the types shared by oracle and readback."""

from __future__ import annotations

import ipaddress
from typing import Literal, NamedTuple

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
"""Protocol numbers by the API's names."""
PROTOCOL_NAMES = {number: name.lower() for name, number in PROTOCOLS.items()}
PROTOCOL_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}
"""Protocol numbers by the names that the kernel's tools use."""

Key = tuple[bytes, int, int]
"""Packed address, protocol, port."""
Target = tuple[bytes, int]
"""An endpoint's packed address and port."""
Refused = tuple[Literal["reject", "drop", "none"]]
Outcome = tuple[Literal["dnat"], frozenset[Target]] | Refused
"""("dnat", endpoints), ("reject",), ("drop",) or ("none",): not handled by the proxy."""
Masquerade = tuple[bool, bool, bool]


def socket_text(address: bytes, port: int) -> str:
    """`10.0.0.1:80` or `[fd00::1]:80`."""
    text = str(ipaddress.ip_address(address))
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"


class Destination(NamedTuple):
    """One address and port: the outcome for a pod, the node itself and an external client.

    `allowed` holds the allowed source ranges, as (first, last) packed addresses; None allows all sources.
    `masquerade` is, for the same three clients, whether the source address is replaced (except for hairpin), and
    `affinity_seconds` how long a client keeps its endpoint; both are None if readback cannot determine them.
    """

    pod: Outcome
    node: Outcome
    external: Outcome
    allowed: frozenset[tuple[bytes, bytes]] | None = None
    masquerade: Masquerade | None = None
    affinity_seconds: int | None = None

    @property
    def outcomes(self) -> tuple[Outcome, Outcome, Outcome]:
        """The outcomes for a pod, the node and an external client."""
        return self.pod, self.node, self.external


class Chains(NamedTuple):
    """Chains of mode iptables, including unreachable ones of Services whose address is used by another Service.

    `external` and `firewalls`: ports with KUBE-EXT and KUBE-FW chains, as `namespace/name:porttcp`; `guarded`:
    load balancer destinations whose untranslated packets are dropped.
    """

    external: frozenset[str]
    firewalls: frozenset[str]
    guarded: frozenset[Key]


class Behaviour(NamedTuple):
    """Destinations by (packed address, protocol, port), node ports by (protocol, port).

    `node_addresses` are those that accept node ports; None means all local addresses except loopback.
    `health_check_ports` are always accepted (IPT-06).  State of single modes, None in the others: `chains` of
    iptables; `sets` of ipvs, their entries in the format of `ipset` by set name without `KUBE-`; and
    `own_endpoints` of this node as (address, protocol, port) for nftables.  `overshadowed`: endpoint sets for places
    that another Service has, which no destination may use.
    """

    destinations: dict[Key, Destination]
    nodeports: dict[tuple[int, int], Destination]
    cluster_ips: frozenset[bytes]
    node_addresses: frozenset[bytes] | None
    health_check_ports: frozenset[int] = frozenset()
    chains: Chains | None = None
    sets: dict[str, set[str]] | None = None
    own_endpoints: frozenset[Key] | None = None
    overshadowed: frozenset[frozenset[Target]] = frozenset()
