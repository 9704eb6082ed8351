"""The types of the fields that a proxy reads; values of other types are answered with 400, before validation."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from harness.kube.resources import ENDPOINT_SLICES, NODES, SERVICES


class _ServicePort(Struct):
    name: str | None = None
    protocol: str | None = None
    appProtocol: str | None = None
    port: int | None = None
    targetPort: int | str | None = None
    nodePort: int | None = None


class _ClientIP(Struct):
    timeoutSeconds: int | None = None


class _AffinityConfig(Struct):
    clientIP: _ClientIP | None = None


class _ServiceSpec(Struct):
    type: str | None = None
    clusterIP: str | None = None
    clusterIPs: list[str] | None = None
    ipFamilies: list[str] | None = None
    ipFamilyPolicy: str | None = None
    ports: list[_ServicePort] | None = None
    selector: dict[str, str] | None = None
    externalIPs: list[str] | None = None
    externalName: str | None = None
    sessionAffinity: str | None = None
    sessionAffinityConfig: _AffinityConfig | None = None
    externalTrafficPolicy: str | None = None
    internalTrafficPolicy: str | None = None
    healthCheckNodePort: int | None = None
    loadBalancerSourceRanges: list[str] | None = None
    allocateLoadBalancerNodePorts: bool | None = None
    loadBalancerClass: str | None = None
    publishNotReadyAddresses: bool | None = None
    trafficDistribution: str | None = None


class _Ingress(Struct):
    ip: str | None = None
    hostname: str | None = None
    ipMode: str | None = None


class _LoadBalancer(Struct):
    ingress: list[_Ingress] | None = None


class _ServiceStatus(Struct):
    loadBalancer: _LoadBalancer | None = None


class _Service(Struct):
    spec: _ServiceSpec | None = None
    status: _ServiceStatus | None = None


class _Conditions(Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Hint(Struct):
    name: str


class _Hints(Struct):
    forZones: list[_Hint] | None = None
    forNodes: list[_Hint] | None = None


class _Endpoint(Struct):
    addresses: list[str] | None = None
    conditions: _Conditions | None = None
    hostname: str | None = None
    nodeName: str | None = None
    zone: str | None = None
    hints: _Hints | None = None


class _EndpointPort(Struct):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    appProtocol: str | None = None


class _EndpointSlice(Struct):
    addressType: str | None = None
    endpoints: list[_Endpoint] | None = None
    ports: list[_EndpointPort] | None = None


class _NodeSpec(Struct):
    podCIDR: str | None = None
    podCIDRs: list[str] | None = None
    unschedulable: bool | None = None


class _NodeAddress(Struct):
    type: str
    address: str


class _NodeStatus(Struct):
    addresses: list[_NodeAddress] | None = None


class _Node(Struct):
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


SHAPES: dict[Any, Any] = {SERVICES: _Service, ENDPOINT_SLICES: _EndpointSlice, NODES: _Node}
