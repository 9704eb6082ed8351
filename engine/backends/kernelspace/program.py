"""HNS load balancer policies and remote endpoints, with the field names of HNS's JSON (schema 2.0).

HNS assigns an endpoint's id at creation; here its address is used instead.  Source: the Host
Compute Network API (`HostComputeLoadBalancer`, `HostComputeEndpoint`) and kube-proxy for Windows.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgspec

from engine.addresses import parse_address
from engine.program import Section

SCHEMA = {"Major": 2, "Minor": 0}
REMOTE_ENDPOINT = 1
"""HostComputeEndpoint.Flags."""

DSR, IPV6 = 1, 2
"""HostComputeLoadBalancer.Flags."""

ILB, LOCAL_ROUTED_VIP, USE_MUX, PRESERVE_DIP, VIP_EXTERNAL_IP = 1, 2, 4, 8, 16
"""PortMappings.Flags."""

SOURCE_IP = 2
"""PortMappings.DistributionType: by source address, for session affinity; 0 means by the whole tuple."""


class LoadBalancer(NamedTuple):
    """One policy; `vip` "" stands for every address of the node."""

    vip: str
    protocol: int
    internal_port: int
    external_port: int
    endpoints: tuple[str, ...]
    flags: int = 0
    port_flags: int = 0
    distribution: int = 0
    source_vip: str = ""

    def as_json(self) -> dict[str, Any]:
        """The policy in HNS's format."""
        mapping = {
            "Protocol": self.protocol,
            "InternalPort": self.internal_port,
            "ExternalPort": self.external_port,
            "DistributionType": self.distribution,
            "Flags": self.port_flags,
        }
        return {
            "HostComputeEndpoints": list(self.endpoints),
            "SourceVIP": self.source_vip,
            "FrontendVIPs": [self.vip] if self.vip else [],
            "PortMappings": [mapping],
            "Flags": self.flags,
            "SchemaVersion": SCHEMA,
        }


class KernelspaceProgram(msgspec.Struct, frozen=True, kw_only=True):
    """One sync of one family: remote endpoints are created before the policies that use them, and deleted after."""

    family: int
    endpoints_added: tuple[str, ...] = ()
    policies_added: tuple[LoadBalancer, ...] = ()
    policies_deleted: tuple[LoadBalancer, ...] = ()
    endpoints_deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.operations)

    @property
    def operations(self) -> int:
        """Endpoints and policies added and deleted."""
        parts = (self.endpoints_added, self.policies_added, self.policies_deleted, self.endpoints_deleted)
        return sum(map(len, parts))

    def digest(self) -> bytes:
        """SHA-256 of the JSON."""
        return hashlib.sha256(self.text().encode()).digest()

    def as_json(self) -> dict[str, Any]:
        """The content by HNS operation; empty operations are omitted."""
        parts = {
            "CreateEndpoints": [remote_endpoint(address) for address in self.endpoints_added],
            "CreateLoadBalancers": [policy.as_json() for policy in self.policies_added],
            "DeleteLoadBalancers": [policy.as_json() for policy in self.policies_deleted],
            "DeleteEndpoints": [remote_endpoint(address) for address in self.endpoints_deleted],
        }
        return {"Family": self.family} | {name: listed for name, listed in parts.items() if listed}

    def sections(self) -> tuple[Section, ...]:
        """One section, for no tool."""
        return (Section("", self.text()),)

    def text(self) -> str:
        """The JSON, indented."""
        return msgspec.json.format(msgspec.json.encode(self.as_json()), indent=2).decode() + "\n"


def remote_endpoint(address: str) -> dict[str, Any]:
    """An endpoint on another node; those of this node already exist in HNS."""
    return {
        "IpConfigurations": [{"IpAddress": address}],
        "MacAddress": _mac(address),
        "Flags": REMOTE_ENDPOINT,
        "SchemaVersion": SCHEMA,
    }


def _mac(address: str) -> str:
    """A synthetic MAC address from the last bytes of the endpoint's address: `02-11-` and four bytes."""
    packed = parse_address(address)
    tail = packed if len(packed) == 4 else packed[:-5:-1]
    return "-".join(("02", "11", *(f"{byte:02x}" for byte in tail)))
