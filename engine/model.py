"""Typed, validated Services, EndpointSlices and Nodes: created by `manifest`, read by the engine.

Addresses are packed bytes (4 or 16, network order): the length determines the family, they sort
numerically, and the kernel uses the same format.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

TCP, UDP, SCTP = 6, 17, 132
PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
PROTOCOL_NAMES = {number: name.lower() for name, number in PROTOCOLS.items()}
"""Names as written by the kernel's tools."""
ADDRESS_BYTES = {4: 4, 6: 16}

Address = bytes
Target = bytes
"""An endpoint in the dataplane: packed address followed by its port (2 bytes, big endian)."""


class Name(NamedTuple):
    """A namespaced name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Network(NamedTuple):
    """A CIDR block: packed address and prefix length in bits."""

    address: Address
    prefix: int


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One address of a slice with its conditions, nil conditions already resolved (EPS-06)."""

    address: Address
    ready: bool
    serving: bool
    terminating: bool
    node: str | None
    zones: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Ready, or still serving while it terminates (TERM-01)."""
        return self.ready or (self.serving and self.terminating)


class EndpointSlice(msgspec.Struct, frozen=True):
    """The relevant fields of an EndpointSlice of one family; ports are (name, protocol, number)."""

    service: Name
    name: str
    family: int
    ports: tuple[tuple[str, int, int], ...]
    endpoints: tuple[Endpoint, ...]


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """One port of a Service; `node_port` is 0 if there is none."""

    name: str
    protocol: int
    port: int
    node_port: int


class Service(msgspec.Struct, frozen=True):
    """A Service that a proxy programs, i.e. not headless or ExternalName (SVC-02).

    `bypassed_ips` are load balancer addresses with ipMode Proxy (SVC-07), `topology_mode` is the
    annotation required by versions up to 1.30 (TOPO-03).
    """

    name: Name
    cluster_ips: tuple[Address, ...]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[Address, ...] = ()
    load_balancer_ips: tuple[Address, ...] = ()
    bypassed_ips: tuple[Address, ...] = ()
    source_ranges: tuple[Network, ...] = ()
    internal_local: bool = False
    external_local: bool = False
    affinity_seconds: int = 0
    health_check_node_port: int = 0
    topology_mode: str = ""


class HostAddresses(NamedTuple):
    """Addresses of the programmed machine: those of its Node object, and all local ones."""

    node: tuple[Address, ...] = ()
    local: tuple[Address, ...] = ()


class Node(msgspec.Struct, frozen=True):
    """A Node's name, topology zone, addresses (InternalIP, ExternalIP) and pod CIDRs."""

    name: str
    zone: str
    addresses: tuple[Address, ...]
    external_addresses: tuple[Address, ...] = ()
    pod_networks: tuple[Network, ...] = ()

    @property
    def host_addresses(self) -> tuple[Address, ...]:
        """One address per family: the first internal one, else the first external one (CFG-20)."""
        listed = self.addresses + self.external_addresses
        firsts = (next((a for a in listed if len(a) == size), None) for size in ADDRESS_BYTES.values())
        return tuple(a for a in firsts if a is not None)
