"""Reads a userspace proxy back: compares its reported state with the kernel's addresses and sockets.

The report consists of plain JSON values: frontends by name (`10.96.0.1:80/tcp`, `*:30080/tcp`), endpoint
sets by name, sources and addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import cache
from typing import Any

from harness.judge.behaviour import PROTOCOL_NUMBERS, Behaviour, Destination, Outcome


def read_addresses(text: str) -> set[str]:
    """`ip -o address show dev lo` of one family, without loopback's own addresses."""
    found = {line.split()[3].split("/")[0] for line in text.splitlines()}
    return {address for address in found if not _address(address).is_loopback}


def read_sockets(text: str) -> set[str]:
    """`ss -Hltun` of one family, as names of frontends."""
    found = set()
    for line in text.splitlines():
        protocol, _, _, _, local = line.split()[:5]
        place, _, port = local.rpartition(":")
        address = place.strip("[]").partition("%")[0]
        if address not in ("*", ""):
            host = str(_address(address))
            found.add(f"[{host}]:{port}/{protocol}" if ":" in host else f"{host}:{port}/{protocol}")
    return found


def behaviour_of(said: dict[str, Any], addresses: set[str], sockets: set[str]) -> Behaviour:
    """The resulting behaviour; ValueError if the proxy's report and the kernel disagree."""
    claimed = set(said.get("addresses_added", ()))
    if claimed != addresses:
        raise ValueError(f"on one side only of loopback and the proxy's report: {sorted(claimed ^ addresses)[:5]}")
    taking = said.get("node_addresses") or ()
    _judge_sockets(said, taking, claimed, sockets)
    destinations, nodeports = {}, {}
    for name, rule in said.get("rules", {}).items():
        host, protocol, port = _split(name)
        if host == "*":
            nodeports[protocol, port] = _destination(said, name, rule)
        else:
            destinations[_address(host).packed, protocol, port] = _destination(said, name, rule)
    return Behaviour(
        destinations,
        nodeports if taking else {},
        frozenset(_address(address).packed for address in addresses),
        frozenset(_address(address).packed for address in taking) if nodeports else frozenset(),
    )


def _judge_sockets(said: dict[str, Any], taking: Sequence[str], addresses: set[str], sockets: set[str]) -> None:
    """Open if any client is admitted, else closed."""
    wanted = set()
    for name, rule in said.get("rules", {}).items():
        if rule["inside"] or rule["outside"]:
            host, _, _ = _split(name)
            hosts = taking if host == "*" else [host]
            wanted |= {_socket(each, name) for each in hosts}
    ours = {name for name in sockets if _split(name)[0] in addresses}
    wrong = sorted(wanted - sockets)[:5] or sorted(ours - wanted)[:5]
    if wrong:
        raise ValueError(f"the kernel's sockets and those that the proxy needs differ: {wrong}")


def _socket(host: str, name: str) -> str:
    tail = name[name.rindex(":") :]
    return f"[{host}]{tail}" if ":" in host else f"{host}{tail}"


@cache
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def _split(name: str) -> tuple[str, int, int]:
    place, _, protocol = name.rpartition("/")
    host, _, port = place.rpartition(":")
    return host.strip("[]"), PROTOCOL_NUMBERS[protocol], int(port)


def _destination(said: dict[str, Any], name: str, rule: dict[str, str | None]) -> Destination:
    # If some clients are admitted the port is open, and datagrams from others are not answered.
    refused: Outcome = ("drop",) if name.endswith("/udp") and (rule["inside"] or rule["outside"]) else ("reject",)
    inside, outside = (_outcome(said, rule[side], refused) for side in ("inside", "outside"))
    used = [said["sets"][rule[side]] for side in ("inside", "outside") if rule[side]]
    networks = [ipaddress.ip_network(text) for text in said.get("allowed", {}).get(name, ())]
    allowed = frozenset((n.network_address.packed, n.broadcast_address.packed) for n in networks)
    led_in = inside[0] == "dnat"
    masquerade = (led_in, led_in, outside[0] == "dnat")  # the proxy's own connection
    affinity = used[0].get("affinity_seconds", 0) if used else 0
    return Destination(inside, inside, outside, allowed or None, masquerade, affinity)


def _outcome(said: dict[str, Any], name: str | None, refused: Outcome) -> Outcome:
    if not name:
        return refused
    targets = said["sets"][name]["targets"]
    return ("dnat", frozenset(map(_target, targets)))


@cache
def _target(text: str) -> tuple[bytes, int]:
    host, _, port = text.rpartition(":")
    return _address(host.strip("[]")).packed, int(port)
