"""The ipsets of ipvs mode: names, types and entries in the format of `ipset` (IPVS-10, IPVS-11)."""

from __future__ import annotations

import re

from engine.addresses import format_address, format_network
from engine.model import PROTOCOL_NAMES, SCTP, TCP, UDP, Address, Network

LOOP_BACK, CLUSTER_IP, IPVS_IPS = "LOOP-BACK", "CLUSTER-IP", "IPVS-IPS"
EXTERNAL_IP, EXTERNAL_IP_LOCAL = "EXTERNAL-IP", "EXTERNAL-IP-LOCAL"
LOAD_BALANCER, LOAD_BALANCER_LOCAL = "LOAD-BALANCER", "LOAD-BALANCER-LOCAL"
LOAD_BALANCER_FW, SOURCE_IP = "LOAD-BALANCER-FW", "LOAD-BALANCER-SOURCE-IP"
SOURCE_CIDR, HEALTH_CHECK = "LOAD-BALANCER-SOURCE-CIDR", "HEALTH-CHECK-NODE-PORT"
NODE_PORT = {TCP: "NODE-PORT-TCP", UDP: "NODE-PORT-UDP", SCTP: "NODE-PORT-SCTP-HASH"}
NODE_PORT_LOCAL = {TCP: "NODE-PORT-LOCAL-TCP", UDP: "NODE-PORT-LOCAL-UDP", SCTP: "NODE-PORT-LOCAL-SCTP-HASH"}

TYPES = {
    LOOP_BACK: "hash:ip,port,ip",
    CLUSTER_IP: "hash:ip,port",
    EXTERNAL_IP: "hash:ip,port",
    EXTERNAL_IP_LOCAL: "hash:ip,port",
    LOAD_BALANCER: "hash:ip,port",
    LOAD_BALANCER_FW: "hash:ip,port",
    LOAD_BALANCER_LOCAL: "hash:ip,port",
    SOURCE_IP: "hash:ip,port,ip",
    SOURCE_CIDR: "hash:ip,port,net",
    NODE_PORT[TCP]: "bitmap:port",
    NODE_PORT_LOCAL[TCP]: "bitmap:port",
    NODE_PORT[UDP]: "bitmap:port",
    NODE_PORT_LOCAL[UDP]: "bitmap:port",
    NODE_PORT[SCTP]: "hash:ip,port",
    NODE_PORT_LOCAL[SCTP]: "hash:ip,port",
    HEALTH_CHECK: "bitmap:port",
    IPVS_IPS: "hash:ip",
}
_MAX_NAME = 31
_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}
_NAMED = re.compile(rf"^((?:add|del) \S+ [^\s,]+),({'|'.join(_NUMBERS)}):", re.MULTILINE)
_NUMBERED = re.compile(rf"^(add \S+ [^\s,]+),({'|'.join(map(str, PROTOCOL_NAMES))}):", re.MULTILINE)
_MAX_ENTRIES = 1 << 20


def full_name(family: int, name: str) -> str:
    """`KUBE-CLUSTER-IP`, or `KUBE-6-CLUSTER-IP`: a set has one family, and at most 31 characters (DS-03)."""
    return f"KUBE-{name}" if family == 4 else f"KUBE-6-{name}"[:_MAX_NAME]


def create_line(family: int, name: str, called: str = "") -> str:
    """The line of `ipset restore` that creates a set, optionally under another name."""
    kind = TYPES[name]
    if kind == "bitmap:port":
        options = "range 0-65535"
    else:
        options = f"family {'inet' if family == 4 else 'inet6'} maxelem {_MAX_ENTRIES}"
    return f"create {called or full_name(family, name)} {kind} {options} -exist"


def ip_port(address: Address, protocol: int, port: int) -> str:
    """An entry of `hash:ip,port`: `10.96.0.1,tcp:80`."""
    return f"{format_address(address)},{PROTOCOL_NAMES[protocol]}:{port}"


def with_numbers(lines: str) -> str:
    """Lines of `ipset restore` with protocols as numbers: names need /etc/protocols, which small machines lack."""
    return _NAMED.sub(lambda found: f"{found[1]},{_NUMBERS[found[2]]}:", lines)


def with_names(lines: str) -> str:
    """Lines of `ipset save` with protocols as names, also from a machine without /etc/protocols."""
    return _NUMBERED.sub(lambda found: f"{found[1]},{PROTOCOL_NAMES[int(found[2])]}:", lines)


def sources(entry: str, networks: tuple[Network, ...]) -> list[str]:
    """Entries of `hash:ip,port,net`; a set cannot contain /0, which is split into two halves."""
    halves: list[Network] = []
    for address, prefix in networks:
        if prefix:
            halves.append(Network(address, prefix))
        else:
            halves += [Network(address, 1), Network(b"\x80" + address[1:], 1)]
    return [f"{entry},{network_text(network)}" for network in halves]


def network_text(network: Network) -> str:
    """`10.0.0.0/8`; a single address without its prefix, as `ipset save` prints it."""
    single = network.prefix == 8 * len(network.address)
    return format_address(network.address) if single else format_network(network)
