"""The expected ipset entries of mode ipvs (IPVS-10 to IPVS-14) for a Service."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from harness.judge.behaviour import PROTOCOL_NAMES

Sets = dict[str, set[str]]
Range = tuple[bytes, bytes]
NAMES = (
    "LOOP-BACK", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "LOAD-BALANCER", "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW", "LOAD-BALANCER-SOURCE-IP", "LOAD-BALANCER-SOURCE-CIDR", "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP", "NODE-PORT-UDP", "NODE-PORT-LOCAL-UDP", "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH", "HEALTH-CHECK-NODE-PORT", "IPVS-IPS",
)  # fmt: skip


def none() -> Sets:
    """All sets, empty."""
    return {name: set() for name in NAMES}


def ip_port(address: bytes, protocol: int, port: int) -> str:
    """An entry of `hash:ip,port`."""
    return f"{ipaddress.ip_address(address)},{PROTOCOL_NAMES[protocol]}:{port}"


def add_outside(sets: Sets, kind: str, ips: Iterable[bytes], protocol: int, port: int, local: bool) -> None:
    """External IPs go to one of two sets; load balancer IPs to one, and with policy Local to another as well."""
    for ip in ips:
        entry = ip_port(ip, protocol, port)
        if kind == "EXTERNAL-IP":
            sets["EXTERNAL-IP-LOCAL" if local else kind].add(entry)
            continue
        sets[kind].add(entry)
        if local:
            sets[f"{kind}-LOCAL"].add(entry)


def add_ranges(sets: Sets, balancers: list[bytes], protocol: int, port: int, allowed: Iterable[Range]) -> None:
    """Allowed sources of load balancer IPs: the IPs themselves as single addresses, others as blocks (LB-05)."""
    for ip in balancers:
        entry = ip_port(ip, protocol, port)
        sets["LOAD-BALANCER-FW"].add(entry)
        for first, last in allowed:
            itself = first == last and first in balancers
            for text in (str(ipaddress.ip_address(first)),) if first == last else _blocks(first, last):
                sets[f"LOAD-BALANCER-SOURCE-{'IP' if itself else 'CIDR'}"].add(f"{entry},{text}")


def _blocks(first: bytes, last: bytes) -> list[str]:
    """A block as text; /0 is split in two halves, as a set cannot hold it."""
    (block,) = ipaddress.summarize_address_range(ipaddress.ip_address(first), ipaddress.ip_address(last))
    return [str(half) for half in (block.subnets() if block.prefixlen == 0 else (block,))]


def add_node_port(sets: Sets, taking: Iterable[bytes], protocol: int, port: int, local: bool) -> None:
    """TCP and UDP entries are ports, SCTP entries are one per address (IPVS-11)."""
    name = {6: "TCP", 17: "UDP", 132: "SCTP-HASH"}[protocol]
    for address in taking:
        entry = ip_port(address, protocol, port) if protocol == 132 else str(port)
        sets[f"NODE-PORT-{name}"].add(entry)
        if local:
            sets[f"NODE-PORT-LOCAL-{name}"].add(entry)
