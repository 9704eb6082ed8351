"""What must become of one packet, by the events alone."""

from __future__ import annotations

import ipaddress

from harness.behaviour import Behaviour, Destination
from harness.oracle.fold import Oracle
from harness.oracle.settings import Settings, block
from harness.trace.packet import Outcome, Packet

POD, NODE, EXTERNAL = 0, 1, 2


def expected(oracle: Oracle, packet: Packet, mode: str = "nftables") -> Outcome:
    """The outcome that the specification demands (NFT-07, LB-04, LB-05)."""
    size = len(packet.destination)
    behaviour = oracle.behaviour(4 if size == 4 else 6, mode)
    found = _frontend(behaviour, packet, oracle.settings, mode)
    client = client_of(packet, oracle.settings)
    if found is None:
        return Outcome(_unknown(behaviour, packet.destination, oracle.settings, mode))
    kind, *targets = found[client]
    barred = found.allowed is not None and not any(a <= packet.source <= b for a, b in found.allowed)
    if barred and mode == "ipvs" and packet.source_local:
        # The node is barred when it comes from the very address that it asks for, and behind IP_VS (LB-05).
        barred = kind == "dnat" and packet.source == packet.destination
    if barred and not (mode == "iptables" and kind == "reject"):
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
    address = ipaddress.ip_address(packet.destination)
    taking = behaviour.node_addresses
    if mode == "iptables" and packet.destination_local and found.external == ("reject",):
        return found  # NOEP-03: not limited by nodePortAddresses
    if address.is_loopback:
        return found if mode == "iptables" and _localhost(settings, address) else None
    taken = packet.destination_local if taking is None else packet.destination in taking
    return found if taken else None


def _localhost(settings: Settings, address) -> bool:
    """Node ports on 127.0.0.1 in mode iptables (NP-05)."""
    if address.version == 6 or not settings.localhost_node_ports:
        return False
    blocks = [b for b in map(block, settings.node_port_addresses or ()) if b.version == 4]
    return not blocks or any(address in b for b in blocks)


def _unknown(behaviour: Behaviour, destination: bytes, settings: Settings, mode: str) -> str:
    """No frontend has the destination (CIP-02, CIP-03)."""
    if mode == "iptables":
        return "no-op"
    if destination in behaviour.cluster_ips:
        return "reject"
    if mode == "ipvs":
        return "no-op"
    known = settings.service_cidrs if settings.gate("MultiCIDRServiceAllocator") else ()
    blocks = [b for b in map(block, known) if len(b.network_address.packed) == len(destination)]
    return "drop" if any(ipaddress.ip_address(destination) in b for b in blocks) else "no-op"
