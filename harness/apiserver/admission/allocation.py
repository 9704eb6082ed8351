"""Cluster IPs and node ports: those in use, and the next free one.

Real API servers choose at random.  Here the highest free value is allocated, so that the same writes give the same
cluster, and low values stay free for clients that choose their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, NamedTuple

import msgspec

from harness.apiserver.admission import checks
from harness.apiserver.admission.service_defaults import needs_health_check, needs_node_ports
from harness.apiserver.errors import Cause
from harness.apiserver.manifest import Object

NODE_PORTS = range(30000, 32768)
Networks = Mapping[str, IPv4Network | IPv6Network]


class _Port(msgspec.Struct):
    protocol: str = "TCP"
    nodePort: int = 0


class _Spec(msgspec.Struct):
    clusterIP: str = ""
    clusterIPs: list[str] = []
    ports: list[_Port] = []
    healthCheckNodePort: int = 0


class _Service(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


_decode = msgspec.json.Decoder(_Service).decode


class Allocated(NamedTuple):
    """Addresses, and node ports with their protocols."""

    addresses: set[str]
    ports: set[tuple[str, int]]


class Exhausted(Exception):
    """No value is free."""


def taken(services: Iterable[Object]) -> Allocated:
    """Addresses and ports allocated to other Services."""
    found = Allocated(set(), set())
    for service in services:
        try:
            spec = _decode(service.raw).spec
        except msgspec.ValidationError:
            continue  # written by the control plane, without admission
        found.addresses.update(spec.clusterIPs or [spec.clusterIP])
        found.ports.update((port.protocol, port.nodePort) for port in spec.ports)
        found.ports.add(("TCP", spec.healthCheckNodePort))
    return found


def allocated(
    new: dict[str, Any], old: dict[str, Any] | None, others: Allocated, networks: Networks
) -> tuple[dict[str, Any], list[Cause]]:
    """The Service with all required values allocated, or the errors; values that it already had are not rechecked."""
    spec, before = dict(new["spec"]), (old or {}).get("spec") or {}
    causes = _addresses(spec, before, others.addresses, networks)
    causes += _node_ports(spec, before, others.ports)
    causes += _health_check(spec, before, others.ports)
    return {**new, "spec": spec}, causes


def _addresses(spec: dict[str, Any], before: dict[str, Any], used: set[str], networks: Networks) -> list[Cause]:
    if spec["type"] == "ExternalName" or spec.get("clusterIP") == "None":
        return []
    given, known = list(spec.get("clusterIPs") or ()), set(before.get("clusterIPs") or [before.get("clusterIP")])
    for address in given:
        if address not in known and (why := _unfit(address, used, networks)):
            return [checks.invalid("spec.clusterIPs", given, f"failed to allocate IP {address}: {why}")]
    wanted = spec["ipFamilies"]
    try:
        given += [_next_address(networks[family], used) for family in wanted[len(given) :]]
    except Exhausted as error:
        return [checks.invalid("spec.clusterIPs", given, f"failed to allocate a serviceIP: {error}")]
    spec |= {"clusterIP": given[0], "clusterIPs": given}
    return []


def _unfit(address: str, used: set[str], networks: Networks) -> str | None:
    found = ip_address(address)
    network = networks[f"IPv{found.version}"]
    if found not in network:
        return f"the provided network does not match the current range: the range of valid IPs is {network}"
    if address in used:
        return "provided IP is already allocated"
    return None


def _next_address(network: IPv4Network | IPv6Network, used: set[str]) -> str:
    last = 2 if network.version == 4 else 1  # without the broadcast address
    for number in range(min(network.num_addresses, 1 << 16) - last, 0, -1):
        if (address := str(network[number])) not in used:
            return address
    raise Exhausted("range is full")


def _node_ports(spec: dict[str, Any], before: dict[str, Any], used: set[tuple[str, int]]) -> list[Cause]:
    known = {(port.get("protocol", "TCP"), port.get("nodePort")) for port in before.get("ports") or ()}
    ports = [dict(port) for port in spec.get("ports") or ()]
    causes = []
    for number, port in enumerate(ports):
        place = port["protocol"], port.get("nodePort")
        if place[1] and place not in known and (why := _unfit_port(place, used)):
            causes.append(checks.invalid(f"spec.ports[{number}].nodePort", place[1], why))
    if causes or not needs_node_ports(spec):
        return causes
    try:
        _fill(ports, used | {(port["protocol"], port["nodePort"]) for port in ports if port.get("nodePort")})
    except Exhausted as error:
        return [checks.invalid("spec.ports", len(ports), f"failed to allocate a nodePort: {error}")]
    spec["ports"] = ports
    return []


def _fill(ports: list[dict[str, Any]], used: set[tuple[str, int]]) -> None:
    """Ports with the same number and different protocols share a node port, as with the API server."""
    by_number: dict[int, int] = {port["port"]: port["nodePort"] for port in ports if port.get("nodePort")}
    for port in ports:
        if port.get("nodePort"):
            continue
        same = by_number.get(port["port"])
        found = same if same and (port["protocol"], same) not in used else _next_port({number for _, number in used})
        port["nodePort"] = by_number[port["port"]] = found
        used.add((port["protocol"], found))


def _health_check(spec: dict[str, Any], before: dict[str, Any], used: set[tuple[str, int]]) -> list[Cause]:
    if not needs_health_check(spec):
        return []
    own = {(port["protocol"], port.get("nodePort", 0)) for port in spec.get("ports") or ()}
    number = spec.get("healthCheckNodePort")
    if number is None:
        spec["healthCheckNodePort"] = _next_port({port for _, port in used | own})
    elif number != before.get("healthCheckNodePort") and (why := _unfit_port(("TCP", number), used | own)):
        return [
            checks.invalid(
                "spec.healthCheckNodePort", number, f"failed to allocate requested HealthCheck NodePort: {why}"
            )
        ]
    return []


def _unfit_port(place: tuple[str, Any], used: set[tuple[str, int]]) -> str | None:
    if place[1] not in NODE_PORTS:
        return f"provided port is not in the valid range. The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
    return "provided port is already allocated" if place in used else None


def _next_port(used: set[int]) -> int:
    for number in reversed(NODE_PORTS):
        if number not in used:
            return number
    raise Exhausted("range is full")
