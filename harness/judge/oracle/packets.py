"""The expected fate of one packet, derived from events alone."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOLS, Behaviour, Destination, Target
from harness.judge.oracle.fold import Oracle
from harness.judge.oracle.modes import TRAITS, Traits
from harness.judge.oracle.settings import LOCALHOST_GATE, Settings, block
from harness.judge.packet import Outcome, Packet

POD, NODE, EXTERNAL = 0, 1, 2


class Fate(NamedTuple):
    """Like Outcome, but `masquerade` excludes the endpoints in `hairpins`, whose source is always replaced."""

    kind: str
    endpoints: frozenset[Target] = frozenset()
    masquerade: bool = False
    hairpins: frozenset[Target] = frozenset()


def expected(oracle: Oracle, packet: Packet, mode: str = "nftables") -> Outcome:
    """The outcome that the specification requires (NFT-07, LB-04, LB-05)."""
    found = fate(oracle, packet, mode, oracle.behaviour(4 if len(packet.destination) == 4 else 6, mode))
    return Outcome(found.kind, found.endpoints, found.masquerade or bool(found.hairpins))


def fate(oracle: Oracle, packet: Packet, mode: str, behaviour: Behaviour) -> Fate:
    """The required outcome with its hairpins; `behaviour` must be that of `oracle`."""
    size, traits = len(packet.destination), TRAITS[mode]
    if traits.rejects_on_loopback and _rejected_on_loopback(behaviour, packet, oracle.settings):
        return Fate("reject")
    found = _frontend(behaviour, packet, oracle.settings, traits)
    if not traits.rejects_on_output:
        found = _refused_on_arrival(found, packet)
    client = client_of(packet, oracle.settings)
    if traits.by_sockets and oracle.settings.pod_block(size) is None:  # a socket sees no interface
        client = NODE if packet.source_local else EXTERNAL
    if found is None:
        return Fate(_unknown(behaviour, packet, oracle.settings, traits))
    outcome = found.outcomes[client]
    kind = outcome[0]
    barred = found.allowed is not None and not any(a <= packet.source <= b for a, b in found.allowed)
    if barred and traits.by_ip_vs and packet.source_local:
        # The node is excluded only if source and destination are equal, and only after IP_VS (LB-05).
        barred = kind == "dnat" and packet.source == packet.destination
    if barred and traits.by_sockets:
        return Fate(_refusal(found, packet.protocol))
    if barred or (traits.opens_loopback and kind != "dnat" and _martian(packet, oracle.settings)):
        return Fate("drop")
    if outcome[0] != "dnat":
        return Fate("no-op" if outcome[0] == "none" else outcome[0])
    targets = outcome[1]
    masqueraded = found.masquerade is not None and found.masquerade[client]
    own = frozenset(target for target in targets if target[0] == packet.source)
    since = traits.hairpins_of_node_since
    if own and since is not None and oracle.settings.version >= since:  # HAIR-01a, HAIR-02
        own &= oracle.on_node(4 if size == 4 else 6, packet.protocol)
    if traits.by_ip_vs:  # IPVS-12
        masqueraded &= not ipaddress.ip_address(packet.source).is_loopback
        # Without a local-traffic detector, a cluster IP as source means that the node chose it (CIP-04).
        masqueraded |= _from_cluster_ip(oracle, behaviour, packet)
    return Fate("dnat", targets, masqueraded, own)


def _rejected_on_loopback(behaviour: Behaviour, packet: Packet, settings: Settings) -> bool:
    """Whether it is to a node port on loopback, where at most the proxy's own TCP listeners answer (NP-12)."""
    if not (ipaddress.ip_address(packet.destination).is_loopback and settings.gate(LOCALHOST_GATE)):
        return False
    served = packet.protocol == PROTOCOLS["TCP"] and settings.localhost_served(len(packet.destination))
    return (packet.protocol, packet.port) in behaviour.nodeports and not served


def _from_cluster_ip(oracle: Oracle, behaviour: Behaviour, packet: Packet) -> bool:
    """Whether it is sent to a cluster IP from a cluster IP, both with the same port."""
    settings = oracle.settings
    detects_pods = settings.pod_block(len(packet.source)) is not None or settings.pod_interface
    services = [(address, packet.protocol, packet.port) for address in (packet.source, packet.destination)]
    return not detects_pods and all(s in behaviour.destinations and s[0] in behaviour.cluster_ips for s in services)


def _refusal(destination: Destination, protocol: int) -> str:
    """How a userspace proxy refuses: by a closed port; if others are accepted, by a reset, or silently (UDP)."""
    is_open = any(outcome[0] == "dnat" for outcome in destination.outcomes)
    return "drop" if is_open and protocol == PROTOCOLS["UDP"] else "reject"


def client_of(packet: Packet, settings: Settings) -> int:
    """The column of a Destination for a packet: detected as a pod's, else the node's, else external."""
    pods = settings.pod_block(len(packet.source))
    if pods is not None:
        is_pod = ipaddress.ip_address(packet.source) in pods
    elif settings.detect_local_mode == "BridgeInterface":
        is_pod = bool(packet.interface) and packet.interface == settings.pod_interface
    else:
        by_prefix = settings.detect_local_mode == "InterfaceNamePrefix" and bool(settings.pod_interface)
        is_pod = by_prefix and packet.interface.startswith(settings.pod_interface)
    return POD if is_pod else NODE if packet.source_local else EXTERNAL


def _frontend(behaviour: Behaviour, packet: Packet, settings: Settings, traits: Traits) -> Destination | None:
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
        taken = traits.opens_loopback and len(packet.destination) == 4 and settings.localhost
    else:
        taken = packet.destination_local
    if taken:
        return found
    if not traits.rejects_on_output and packet.destination_local and found.external[0] != "dnat":
        outcome = found.external
        return Destination(
            outcome, outcome, outcome, masquerade=(False, False, False)
        )  # rejected on any address (NOEP-03)
    return None


def _refused_on_arrival(found: Destination | None, packet: Packet) -> Destination | None:
    """The node's packets to itself are rejected on input like those of others (NOEP-03)."""
    if found is None or not packet.destination_local or found.node != ("none",):
        return found
    return found._replace(node=found.external)


def _martian(packet: Packet, settings: Settings) -> bool:
    """Whether it is sent to a loopback address from elsewhere, which the mode has enabled (NP-05)."""
    source, destination = ipaddress.ip_address(packet.source), ipaddress.ip_address(packet.destination)
    return settings.localhost and destination.version == 4 and destination.is_loopback and not source.is_loopback


def _unknown(behaviour: Behaviour, packet: Packet, settings: Settings, traits: Traits) -> str:
    """The outcome for a destination that is not a frontend (CIP-02, CIP-03)."""
    destination = packet.destination
    if traits.opens_loopback and _martian(packet, settings):
        return "drop"
    if destination in behaviour.cluster_ips:
        return "reject"
    if not traits.drops_unassigned:
        return "no-op"
    known = settings.service_cidrs if settings.gate("MultiCIDRServiceAllocator") else ()
    blocks = [b for b in map(block, known) if len(b.network_address.packed) == len(destination)]
    return "drop" if any(ipaddress.ip_address(destination) in b for b in blocks) else "no-op"
