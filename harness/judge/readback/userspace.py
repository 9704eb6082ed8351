"""Reads a userspace proxy back: what it says of itself, held against the kernel's addresses and sockets.

Said is the proxy's own account as plain JSON values: frontends by name (`10.96.0.1:80/tcp`,
`*:30080/tcp`), endpoint sets by name, sources and addresses.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from harness.behaviour import Behaviour, Destination, Outcome

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


def read_addresses(text: str) -> set[str]:
    """`ip -o address show dev lo` of one family, without loopback's own."""
    found = {line.split()[3].split("/")[0] for line in text.splitlines()}
    return {address for address in found if not ipaddress.ip_address(address).is_loopback}


def read_sockets(text: str) -> set[str]:
    """`ss -Hltun` of one family, as names of frontends."""
    found = set()
    for line in text.splitlines():
        protocol, _, _, _, local = line.split()[:5]
        place, _, port = local.rpartition(":")
        address = place.strip("[]").partition("%")[0]
        if address not in ("*", ""):
            host = str(ipaddress.ip_address(address))
            found.add(f"[{host}]:{port}/{protocol}" if ":" in host else f"{host}:{port}/{protocol}")
    return found


def meaning(said: dict[str, Any], addresses: set[str], sockets: set[str]) -> Behaviour:
    """The behaviour that these give; ValueError where the account and the kernel contradict each other."""
    claimed = set(said.get("addresses_added", ()))
    if claimed != addresses:
        raise ValueError(f"on one side only of loopback and the proxy's account: {sorted(claimed ^ addresses)[:5]}")
    taking = said.get("node_addresses") or ()
    _judge_sockets(said, taking, claimed, sockets)
    destinations, nodeports = {}, {}
    for name, rule in said.get("rules", {}).items():
        host, protocol, port = _split(name)
        if host == "*":
            nodeports[protocol, port] = _destination(said, name, rule)
        else:
            destinations[ipaddress.ip_address(host).packed, protocol, port] = _destination(said, name, rule)
    return Behaviour(
        destinations,
        nodeports if taking else {},
        frozenset(ipaddress.ip_address(address).packed for address in addresses),
        frozenset(ipaddress.ip_address(address).packed for address in taking) if nodeports else frozenset(),
    )


def _judge_sockets(said: dict[str, Any], taking, addresses: set[str], sockets: set[str]) -> None:
    """Open where somebody is let in, closed where nobody is."""
    wanted = set()
    for name, rule in said.get("rules", {}).items():
        if rule["inside"] or rule["outside"]:
            host, _, _ = _split(name)
            hosts = taking if host == "*" else [host]
            wanted |= {_socket(each, name) for each in hosts}
    ours = {name for name in sockets if _split(name)[0] in addresses}
    wrong = sorted(wanted - sockets)[:5] or sorted(ours - wanted)[:5]
    if wrong:
        raise ValueError(f"sockets that the kernel has and those that the proxy needs differ: {wrong}")


def _socket(host: str, name: str) -> str:
    tail = name[name.rindex(":") :]
    return f"[{host}]{tail}" if ":" in host else f"{host}{tail}"


def _split(name: str) -> tuple[str, int, int]:
    place, _, protocol = name.rpartition("/")
    host, _, port = place.rpartition(":")
    return host.strip("[]"), PROTOCOLS[protocol], int(port)


def _destination(said: dict[str, Any], name: str, rule: dict[str, str | None]) -> Destination:
    # Where some are let in the port is open, and a datagram of others is not answered.
    refused = ("drop",) if name.endswith("/udp") and (rule["inside"] or rule["outside"]) else ("reject",)
    inside, outside = (_outcome(said, rule[side], refused) for side in ("inside", "outside"))
    used = [said["sets"][rule[side]] for side in ("inside", "outside") if rule[side]]
    networks = [ipaddress.ip_network(text) for text in said.get("allowed", {}).get(name, ())]
    allowed = frozenset((n.network_address.packed, n.broadcast_address.packed) for n in networks)
    outcomes = (inside, inside, outside)
    masquerade = tuple(outcome[0] == "dnat" for outcome in outcomes)  # the proxy's own connection
    affinity = used[0].get("affinity_seconds", 0) if used else 0
    return Destination(*outcomes, allowed or None, masquerade, affinity)


def _outcome(said: dict[str, Any], name: str | None, refused: Outcome) -> Outcome:
    if not name:
        return refused
    targets = said["sets"][name]["targets"]
    return ("dnat", frozenset(_target(text) for text in targets))


def _target(text: str) -> tuple[bytes, int]:
    host, _, port = text.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")).packed, int(port)
