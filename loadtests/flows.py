"""Flows: each is a kind of request to a Service's address, from a spec's nodes and Services. Pure."""

from __future__ import annotations

from typing import NamedTuple

from harness.lab.answers import ServiceStatus
from loadtests.spec import Spec, SpecError

HTTP, HTTP_KEEPALIVE, TCP, UDP, UDP_KEPT = "http", "http-keepalive", "tcp", "udp", "udp-kept"
DATAGRAMS = (UDP, UDP_KEPT)
ONE_FLOW_EACH = (HTTP, TCP)
"""Kinds whose requests each open a new flow; a UDP request may belong to the flow of an earlier user of its port."""


class FlowDestination(NamedTuple):
    """An address and port; `node` is the node whose address it is, "" for a Service's own."""

    address: str
    port: int
    node: str = ""

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


class Flow(NamedTuple):
    """A named stream of requests of one kind, spread over its destinations."""

    name: str
    kind: str
    destinations: tuple[FlowDestination, ...]


class _Way(NamedTuple):
    service: str
    port: str
    address: str  # nodes, balancer or cluster
    kind: str


FLOWS = {
    "nodeport-http": _Way("web", "http", "nodes", HTTP),
    "nodeport-http-keepalive": _Way("web", "http", "nodes", HTTP_KEEPALIVE),
    "nodeport-tcp": _Way("web", "tcp", "nodes", TCP),
    "nodeport-udp": _Way("web", "udp", "nodes", UDP),
    "balancer-http": _Way("web", "http", "balancer", HTTP),
    "balancer-http-keepalive": _Way("web", "http", "balancer", HTTP_KEEPALIVE),
    "nodeport-udp-kept": _Way("web", "udp", "nodes", UDP_KEPT),
    "clusterip-http": _Way("web", "http", "cluster", HTTP),
    "clusterip-http-keepalive": _Way("web", "http", "cluster", HTTP_KEEPALIVE),
    "clusterip-tcp": _Way("web", "tcp", "cluster", TCP),
    "clusterip-udp": _Way("web", "udp", "cluster", UDP),
    "clusterip-udp-kept": _Way("web", "udp", "cluster", UDP_KEPT),
    "sticky-http": _Way("web-sticky", "http", "nodes", HTTP),
    "local-http": _Way("web-local", "http", "nodes", HTTP),
}
"""By name of the flow: its Service, the port, the address that it uses, and the kind of its requests."""


def flow_of(name: str, spec: Spec) -> Flow:
    """The flow with a name; SpecError for an unknown name, or a missing Service."""
    way = FLOWS.get(name)
    if way is None:
        raise SpecError(f"unknown flow {name!r}; there are: {', '.join(FLOWS)}")
    service = next((s for s in spec.services if s.name == way.service), None)
    if service is None or way.port not in service.ports:
        raise SpecError(f"flow {name}: there is no Service {way.service} with a port {way.port}")
    found = _destinations(way, service, spec)
    if not found:
        raise SpecError(f"flow {name}: the Service {way.service} has no such address")
    return Flow(name, way.kind, found)


def _destinations(way: _Way, service: ServiceStatus, spec: Spec) -> tuple[FlowDestination, ...]:
    port = service.ports[way.port]
    if way.address == "nodes":
        number = port.node_port
        return tuple(FlowDestination(address, number, n) for n, address in sorted(spec.nodes.items())) if number else ()
    address = service.balancer if way.address == "balancer" else service.cluster_ip
    return (FlowDestination(address, port.port),) if address else ()
