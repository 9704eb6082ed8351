"""Derives behaviour from virtual servers, ipsets and addresses, as printed by the tools.

    ipvsadm -Sn, ipset save, ip address -> Read -> behaviour_of() -> Behaviour

A virtual server sends a new connection to any destination with a weight above 0, and refuses it if there
is none.  The client makes no difference in this mode.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from harness.judge.behaviour import PROTOCOL_NAMES, PROTOCOL_NUMBERS, Behaviour, Destination, Outcome

DEVICE = "kube-ipvs0"
_FLAGS = {"-t": "tcp", "-u": "udp", "--sctp-service": "sctp"}
_NODE_PORT_SETS = {"NODE-PORT-TCP": 6, "NODE-PORT-UDP": 17, "NODE-PORT-SCTP-HASH": 132}
_SETS_SEEN = 31

Server = tuple[bytes, int, int]
"""Packed address, protocol, port."""


@dataclass
class Read:
    """The state of one family.  `servers`: weights by (packed address, port); `options`: as printed by ipvsadm.

    `sets` by full name; `rules`: the lines `-A CHAIN ...` by table; `otherwise`: destinations that are not
    forwarded to by masquerading (NAT).
    """

    servers: dict[Server, dict[tuple[bytes, int], int]] = field(default_factory=dict)
    options: dict[Server, str] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    addresses: set[bytes] = field(default_factory=set)
    rules: dict[str, list[str]] = field(default_factory=dict)
    otherwise: list[str] = field(default_factory=list)


def read_servers(text: str, family: int, into: Read) -> None:
    """`ipvsadm -Sn` (or a program's lines for `ipvsadm -R`); ValueError for an invalid line."""
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] not in ("-A", "-a"):
            continue
        address, port = endpoint(words[2])
        if len(address) != (4 if family == 4 else 16):
            continue
        server = (address, PROTOCOL_NUMBERS[_FLAGS[words[1]]], port)
        if words[0] == "-A":
            into.servers[server] = {}
            into.options[server] = " ".join(words[3:])
        else:
            weight = int(words[words.index("-w") + 1])
            if "-m" not in words:
                into.otherwise.append(line)
            into.servers[server][endpoint(words[words.index("-r") + 1])] = weight


def read_sets(text: str, family: int, into: Read) -> None:
    """`ipset save`; sets of the other family are skipped."""
    for line in text.splitlines():
        words = line.split()
        if not words or not words[1].startswith("KUBE-") or words[1].startswith("KUBE-6-") != (family == 6):
            continue
        if words[0] == "create":
            into.sets.setdefault(words[1], set())
        elif words[0] == "add":
            into.sets[words[1]].update(_unfold(words[2]))


def _unfold(entry: str) -> list[str]:
    """Ports of a saved bitmap's range, as `30000-30002` is three ports; else the entry, with its protocol's name."""
    if re.fullmatch(r"\d+-\d+", entry):
        first, last = map(int, entry.split("-"))
        return [str(port) for port in range(first, last + 1)]
    address, comma, rest = entry.partition(",")
    protocol, colon, port = rest.partition(":")
    if protocol.isdigit():  # on a machine without /etc/protocols
        protocol = PROTOCOL_NAMES[int(protocol)]
    return [f"{address}{comma}{protocol}{colon}{port}"]


def read_addresses(text: str, into: Read) -> None:
    """`ip -o address show dev kube-ipvs0` of one family, without the kernel's own link-local address."""
    for line in text.splitlines():
        address = ipaddress.ip_address(line.split()[3].split("/")[0])
        if not (address.version == 6 and address.is_link_local):
            into.addresses.add(address.packed)


def read_rules(text: str, into: Read) -> None:
    """`iptables-save`, or the text for `iptables-restore`."""
    table: list[str] = []
    for line in text.splitlines():
        if line.startswith("*"):
            table = into.rules.setdefault(line[1:], [])
        elif line.startswith("-I "):
            table.insert(0, line.replace("-I", "-A", 1))
        elif line.startswith("-A "):
            table.append(line)


def endpoint(text: str) -> tuple[bytes, int]:
    """`10.0.0.1:80` or `[fd00::1]:80`."""
    address, _, port = text.rpartition(":")
    return ipaddress.ip_address(address.strip("[]")).packed, int(port)


def set_name(family: int, name: str) -> str:
    """The full name of a set."""
    return f"KUBE-{name}" if family == 4 else f"KUBE-6-{name}"[:_SETS_SEEN]


def behaviour_of(family: int, read: Read) -> Behaviour:
    """The resulting behaviour; ValueError if servers, addresses and sets are inconsistent."""
    entries = {
        name: {_server(entry) for entry in read.sets.get(set_name(family, name), ())}
        for name in ("CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "LOAD-BALANCER", "LOAD-BALANCER-FW")
    }
    named = set().union(*entries.values())
    missing = named - read.servers.keys()
    if missing:
        raise ValueError(f"in a set but without a virtual server: {sorted(missing)[:5]}")
    bound = {ipaddress.ip_address(text).packed for text in read.sets.get(set_name(family, "IPVS-IPS"), ())}
    if bound != read.addresses:
        raise ValueError(f"set IPVS-IPS and {DEVICE} differ: {sorted(bound ^ read.addresses)[:5]}")
    destinations = {}
    for server in named:
        allowed = _allowed(family, server, read) if server in entries["LOAD-BALANCER-FW"] else None
        destinations[server] = _destination(server, read, allowed)
    nodeports, addresses = _nodeports(family, read, read.servers.keys() - named)
    return Behaviour(destinations, nodeports, frozenset(read.addresses), frozenset(addresses))


def _server(entry: str) -> Server:
    address, _, rest = entry.partition(",")
    protocol, _, port = rest.partition(":")
    return ipaddress.ip_address(address).packed, PROTOCOL_NUMBERS[protocol], int(port)


def _destination(server: Server, read: Read, allowed: frozenset[tuple[bytes, bytes]] | None = None) -> Destination:
    targets = frozenset(target for target, weight in read.servers[server].items() if weight)
    outcome: Outcome = ("dnat", targets) if targets else ("reject",)
    persistent = re.search(r"-p (\d+)", read.options[server])
    seconds = int(persistent[1]) if persistent and targets else 0  # without endpoints there is no affinity
    return Destination(outcome, outcome, outcome, allowed, affinity_seconds=seconds)


def _allowed(family: int, server: Server, read: Read) -> frozenset[tuple[bytes, bytes]]:
    networks = []
    for name in ("LOAD-BALANCER-SOURCE-CIDR", "LOAD-BALANCER-SOURCE-IP"):
        for entry in read.sets.get(set_name(family, name), ()):
            destination, _, source = entry.rpartition(",")
            if _server(destination) == server:
                networks.append(ipaddress.ip_network(source))
    # A set cannot hold /0: it is stored as two halves.
    halves = len(set(networks)) == 2 and all(n.prefixlen == 1 for n in networks)
    merged = [networks[0].supernet()] if halves else networks
    return frozenset((n.network_address.packed, n.broadcast_address.packed) for n in merged)


def _nodeports(family: int, read: Read, servers: set[Server]) -> tuple[dict[tuple[int, int], Destination], set[bytes]]:
    """Servers on node addresses: they must be the same on each address, and each port must be in its set."""
    addresses = {address for address, _, _ in servers}
    nodeports = {}
    for server in servers:
        _, protocol, port = server
        keys = [(address, protocol, port) for address in sorted(addresses)]
        found = [(read.servers.get(key), read.options.get(key)) for key in keys]
        if any(each != found[0] for each in found):
            raise ValueError(f"node port {port} differs between node addresses")
        nodeports[protocol, port] = _destination(server, read)
    listed = set()
    for name, protocol in _NODE_PORT_SETS.items():
        for entry in read.sets.get(set_name(family, name), ()):
            listed.add((protocol, int(entry.rpartition(":")[2])))
    if listed != nodeports.keys():
        raise ValueError(f"node ports in sets and as virtual servers differ: {sorted(listed ^ nodeports.keys())[:5]}")
    return nodeports, addresses
