"""What must become of one packet, by the events alone."""

from __future__ import annotations

import ipaddress

from harness.behaviour import Behaviour, Destination
from harness.oracle.fold import Oracle
from harness.oracle.settings import PROTOCOLS, Settings, block
from harness.trace.packet import Outcome, Packet

POD, NODE, EXTERNAL = 0, 1, 2


def expected(oracle: Oracle, packet: Packet, mode: str = "nftables") -> Outcome:
    """The outcome that the specification demands (NFT-07, LB-04, LB-05)."""
    size = len(packet.destination)
    behaviour = oracle.behaviour(4 if size == 4 else 6, mode)
    found = _frontend(behaviour, packet, oracle.settings, mode)
    if mode == "iptables":
        found = _refused_on_arrival(found, packet)
    client = client_of(packet, oracle.settings)
    if mode == "userspace" and oracle.settings.pod_block(size) is None:  # a socket sees no interface
        client = NODE if packet.source_local else EXTERNAL
    if found is None:
        return Outcome(_unknown(behaviour, packet, oracle.settings, mode))
    kind, *targets = found[client]
    barred = found.allowed is not None and not any(a <= packet.source <= b for a, b in found.allowed)
    if barred and mode == "ipvs" and packet.source_local:
        # The node is barred when it comes from the very address that it asks for, and behind IP_VS (LB-05).
        barred = kind == "dnat" and packet.source == packet.destination
    if barred and mode == "userspace":
        return Outcome(_refusal(found, packet.protocol))
    if barred or (mode == "iptables" and kind != "dnat" and _martian(packet, oracle.settings)):
        return Outcome("drop")
    if kind != "dnat":
        return Outcome("no-op" if kind == "none" else kind)
    masqueraded = bool(found.masquerade[client])
    own = {target for target in targets[0] if target[0] == packet.source}
    if mode == "ipvs":  # HAIR-02, IPVS-12
        own &= oracle.on_node(4 if size == 4 else 6, packet.protocol)
        masqueraded &= not ipaddress.ip_address(packet.source).is_loopback
        # Where nothing tells pods, a source that is itself a cluster IP shows that the node chose it (CIP-04).
        masqueraded |= _from_cluster_ip(oracle, behaviour, packet)
    return Outcome("dnat", targets[0], masqueraded or bool(own))


def _from_cluster_ip(oracle: Oracle, behaviour: Behaviour, packet: Packet) -> bool:
    """To a cluster IP, from one of the same port."""
    settings = oracle.settings
    told = settings.pod_block(len(packet.source)) is not None or settings.pod_interface
    services = [(address, packet.protocol, packet.port) for address in (packet.source, packet.destination)]
    return not told and all(s in behaviour.destinations and s[0] in behaviour.cluster_ips for s in services)


def _refusal(destination: Destination, protocol: int) -> str:
    """How a proxy of sockets refuses: by a closed port; where others are let in by a reset, or silence (UDP)."""
    is_open = any(outcome[0] == "dnat" for outcome in destination[:3])
    return "drop" if is_open and protocol == PROTOCOLS["UDP"] else "reject"


def client_of(packet: Packet, settings: Settings) -> int:
    """The column of a Destination that a packet is in: told as a pod, else the node's own, else external."""
    pods = settings.pod_block(len(packet.source))
    if pods is not None:
        is_pod = ipaddress.ip_address(packet.source) in pods
    elif settings.detect_local_mode == "BridgeInterface":
        is_pod = bool(packet.interface) and packet.interface == settings.pod_interface
    else:
        by_prefix = settings.detect_local_mode == "InterfaceNamePrefix" and bool(settings.pod_interface)
        is_pod = by_prefix and packet.interface.startswith(settings.pod_interface)
    return POD if is_pod else NODE if packet.source_local else EXTERNAL


def _frontend(behaviour: Behaviour, packet: Packet, settings: Settings, mode: str) -> Destination | None:
    found = behaviour.destinations.get((packet.destination, packet.protocol, packet.port))
    if found is not None:
        return found
    found = behaviour.nodeports.get((packet.protocol, packet.port))
    if found is None:
        return None
    taking = behaviour.node_addresses
    if taking is not None:
        taken = packet.destination in taking
    elif ipaddress.ip_address(packet.destination).is_loopback:
        taken = mode == "iptables" and len(packet.destination) == 4 and settings.localhost
    else:
        taken = packet.destination_local
    if taken:
        return found
    if mode == "iptables" and packet.destination_local and found.external[0] != "dnat":
        return Destination(*(found.external,) * 3, masquerade=(False,) * 3)  # refused on any address (NOEP-03)
    return None


def _refused_on_arrival(found: Destination | None, packet: Packet) -> Destination | None:
    """What is refused to others is refused to the node too, where its packets come in again (NOEP-03)."""
    if found is None or not packet.destination_local or found.node != ("none",):
        return found
    return found._replace(node=found.external)


def _martian(packet: Packet, settings: Settings) -> bool:
    """Whether somebody else asks for a loopback address, which mode iptables has opened (NP-05)."""
    source, destination = ipaddress.ip_address(packet.source), ipaddress.ip_address(packet.destination)
    return settings.localhost and destination.version == 4 and destination.is_loopback and not source.is_loopback


def _unknown(behaviour: Behaviour, packet: Packet, settings: Settings, mode: str) -> str:
    """No frontend has the destination (CIP-02, CIP-03)."""
    destination = packet.destination
    if mode == "iptables":
        return "drop" if _martian(packet, settings) else "no-op"
    if destination in behaviour.cluster_ips:
        return "reject"
    if mode in ("ipvs", "userspace"):
        return "no-op"
    known = settings.service_cidrs if settings.gate("MultiCIDRServiceAllocator") else ()
    blocks = [b for b in map(block, known) if len(b.network_address.packed) == len(destination)]
    return "drop" if any(ipaddress.ip_address(destination) in b for b in blocks) else "no-op"
