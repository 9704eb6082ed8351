"""Decodes Kubernetes manifests (JSON) to `model` values, and rejects malformed ones.

Field meanings are those of the core/v1 and discovery.k8s.io/v1 API reference; the filters are
those of kube-proxy (labels, headless, ExternalName).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from sys import intern
from typing import Annotated, Protocol, TypeVar

import msgspec

from engine.addresses import parse_address, parse_network
from engine.config import NEWEST
from engine.model import (
    ADDRESS_BYTES,
    PROTOCOLS,
    Address,
    Endpoint,
    EndpointSlice,
    Name,
    Network,
    Node,
    Service,
    ServicePort,
)

SERVICE_NAME = "kubernetes.io/service-name"
ZONE = "topology.kubernetes.io/zone"
TOPOLOGY_MODES = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
PROXY_NAME, HEADLESS = FOREIGN = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
LABELS_SPLIT_SINCE = (1, 36)
"""Since this version the first label hides only Services, the second only slices; before, each hid both (SVC-01a)."""


_log = logging.getLogger(__name__)


class ManifestError(ValueError):
    """A manifest that the API would never send; the message names field and value."""


class _Identity(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class _Named(msgspec.Struct):
    metadata: _Identity = msgspec.field(default_factory=_Identity)


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


PortNumber = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class _Port(msgspec.Struct):
    port: PortNumber | None = None
    name: str | None = None
    protocol: str | None = None
    nodePort: PortNumber | None = None


class _ClientIP(msgspec.Struct):
    timeoutSeconds: Seconds | None = None


class _Affinity(msgspec.Struct):
    clientIP: _ClientIP | None = None


class _ServiceSpec(msgspec.Struct):
    type: str = "ClusterIP"
    clusterIP: str = ""
    clusterIPs: list[str] | None = None
    ipFamilies: list[str] | None = None
    ports: list[_Port] | None = None
    externalIPs: list[str] | None = None
    loadBalancerSourceRanges: list[str] | None = None
    externalTrafficPolicy: str | None = None
    internalTrafficPolicy: str | None = None
    sessionAffinity: str | None = None
    sessionAffinityConfig: _Affinity | None = None
    healthCheckNodePort: PortNumber | None = None


class _Ingress(msgspec.Struct):
    ip: str | None = None
    ipMode: str | None = None


class _LoadBalancer(msgspec.Struct):
    ingress: list[_Ingress] | None = None


class _ServiceStatus(msgspec.Struct):
    loadBalancer: _LoadBalancer | None = None


class _Service(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)
    status: _ServiceStatus | None = None


class _Conditions(msgspec.Struct, gc=False):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Hint(msgspec.Struct):
    name: str


class _Hints(msgspec.Struct):
    forZones: list[_Hint] | None = None
    forNodes: list[_Hint] | None = None


class _Endpoint(msgspec.Struct, gc=False):
    addresses: tuple[str, ...] = ()
    conditions: _Conditions | None = None
    nodeName: str | None = None
    hints: _Hints | None = None


class _Slice(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    addressType: str = ""
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None


class _NodeAddress(msgspec.Struct):
    type: str = ""
    address: str = ""


class _NodeStatus(msgspec.Struct):
    addresses: list[_NodeAddress] | None = None


class _NodeSpec(msgspec.Struct):
    podCIDR: str = ""
    podCIDRs: list[str] | None = None


class _Node(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


_named = msgspec.json.Decoder(_Named).decode
_service = msgspec.json.Decoder(_Service).decode
_slice = msgspec.json.Decoder(_Slice).decode
_node = msgspec.json.Decoder(_Node).decode


class _HasName(Protocol):
    @property
    def metadata(self) -> _Identity | _Meta: ...


Decoded = TypeVar("Decoded", bound=_HasName)


def _decode(decoder: Callable[[bytes], Decoded], manifest: bytes) -> Decoded:
    try:
        decoded = decoder(manifest)
    except msgspec.DecodeError as error:
        raise ManifestError(f"not a valid manifest: {error}") from None
    if not decoded.metadata.name:
        raise ManifestError("object has no metadata.name")
    return decoded


def _address(field: str, text: str) -> Address:
    try:
        return parse_address(text.strip())
    except ValueError:
        raise ManifestError(f"{field}: {text!r} is not an IPv4 or IPv6 address") from None


def _protocol(port: _Port) -> int:
    protocol = PROTOCOLS.get(port.protocol or "TCP")
    if protocol is None:
        raise ManifestError(f"ports: protocol {port.protocol!r} is not one of TCP, UDP, SCTP")
    return protocol


def decode_name(manifest: bytes) -> Name:
    """Namespace and name of an object of any kind; other fields are ignored."""
    metadata = _decode(_named, manifest).metadata
    return Name(metadata.namespace, metadata.name)


def decode_service(manifest: bytes, version: tuple[int, int] = NEWEST) -> tuple[Name, Service | None]:
    """The Service's name, and the Service unless this proxy must ignore it (SVC-01, SVC-01a, SVC-02)."""
    raw = _decode(_service, manifest)
    name = Name(intern(raw.metadata.namespace), raw.metadata.name)
    spec = raw.spec
    skipped = spec.type == "ExternalName" or spec.clusterIP in ("", "None")
    if skipped or _foreign(raw.metadata, PROXY_NAME, version):
        return name, None
    external_local = _external_local(spec)
    ports = [
        ServicePort(intern(port.name or ""), _protocol(port), port.port or 0, port.nodePort or 0)
        for port in spec.ports or ()
    ]
    return name, Service(
        name=name,
        cluster_ips=_cluster_ips(spec),
        ports=tuple(ports),
        external_ips=_external_ips(spec.externalIPs or ()),
        load_balancer_ips=_ingress_ips(raw.status, bypassed=False),
        bypassed_ips=_ingress_ips(raw.status, bypassed=True),
        source_ranges=_source_ranges(spec.loadBalancerSourceRanges or []),
        internal_local=spec.internalTrafficPolicy == "Local",
        external_local=external_local,
        affinity_seconds=_affinity_seconds(spec),
        health_check_node_port=_health_check_node_port(spec, external_local),
        topology_mode=_topology_mode(raw.metadata.annotations),
    )


def _cluster_ips(spec: _ServiceSpec) -> tuple[Address, ...]:
    """The addresses that match their listed family; without families only `clusterIP` is used (SVC-04)."""
    if not spec.ipFamilies:
        return (_address("spec.clusterIP", spec.clusterIP),)
    found = []
    for text, family in zip(spec.clusterIPs or [spec.clusterIP], spec.ipFamilies, strict=False):
        address = _address("spec.clusterIPs", text)
        if len(address) == (16 if family == "IPv6" else 4):
            found.append(address)
    return tuple(found)


def _external_ips(texts: Iterable[str]) -> tuple[Address, ...]:
    """The valid addresses; blank ones are ignored, invalid ones are logged and skipped (SVC-05)."""
    found = []
    for text in texts:
        try:
            if text.strip():
                found.append(parse_address(text.strip()))
        except ValueError:
            _log.error("Skipping invalid IP: %s", text)
    return tuple(found)


def _health_check_node_port(spec: _ServiceSpec, external_local: bool) -> int:
    """Used for load balancers with external policy Local only (SVC-09)."""
    return (spec.healthCheckNodePort or 0) if spec.type == "LoadBalancer" and external_local else 0


def _topology_mode(annotations: dict[str, str] | None) -> str:
    """The value of the first of the two annotations that is present (TOPO-03)."""
    return next((annotations[key] for key in TOPOLOGY_MODES if key in annotations), "") if annotations else ""


def hiding_labels(own_label: str, version: tuple[int, int]) -> tuple[str, ...]:
    """Labels that hide an object from this proxy, with any value; `own_label` is that of its kind (SVC-01a)."""
    return (own_label,) if version >= LABELS_SPLIT_SINCE else FOREIGN


def _foreign(meta: _Meta, own_label: str, version: tuple[int, int]) -> bool:
    """Whether a label excludes this object from this proxy."""
    return meta.labels is not None and not meta.labels.keys().isdisjoint(hiding_labels(own_label, version))


def _ingress_ips(status: _ServiceStatus | None, bypassed: bool) -> tuple[Address, ...]:
    """Load balancer addresses with ipMode Proxy (`bypassed`), or the others (SVC-07)."""
    if status is None or status.loadBalancer is None or not status.loadBalancer.ingress:
        return ()
    listed = [i.ip for i in status.loadBalancer.ingress if i.ip and (i.ipMode == "Proxy") == bypassed]
    return tuple([_address("status.loadBalancer.ingress", ip) for ip in listed])


def _source_ranges(texts: list[str]) -> tuple[Network, ...]:
    try:
        return tuple([parse_network(text) for text in texts])
    except ValueError as error:
        raise ManifestError(f"spec.loadBalancerSourceRanges: {error}") from None


def _external_local(spec: _ServiceSpec) -> bool:
    """externalTrafficPolicy Local applies only if external traffic can arrive (SVC-08)."""
    reachable = spec.type in ("LoadBalancer", "NodePort") or bool(spec.externalIPs)
    return reachable and spec.externalTrafficPolicy == "Local"


def _affinity_seconds(spec: _ServiceSpec) -> int:
    if spec.sessionAffinity != "ClientIP":
        return 0
    client = spec.sessionAffinityConfig and spec.sessionAffinityConfig.clientIP
    return (client and client.timeoutSeconds) or 10800


def decode_slice(manifest: bytes, version: tuple[int, int] = NEWEST) -> tuple[Name, EndpointSlice | None]:
    """The slice's (namespace, name), and the slice unless this proxy must ignore it (EPS-01, SVC-01a)."""
    raw = _decode(_slice, manifest)
    meta = raw.metadata
    namespace = intern(meta.namespace)  # shared, as names of ports and nodes are: they occur thousands of times
    own = Name(namespace, meta.name)
    service = (meta.labels or {}).get(SERVICE_NAME)
    if not service or raw.addressType not in ("IPv4", "IPv6") or _foreign(meta, HEADLESS, version):
        return own, None
    family = 4 if raw.addressType == "IPv4" else 6
    ports = [
        (intern(port.name), _protocol(port), port.port)
        for port in raw.ports or ()
        if port.name is not None and port.port
    ]
    endpoints = _endpoints(raw.endpoints or (), ADDRESS_BYTES[family])
    return own, EndpointSlice(Name(namespace, service), meta.name, family, tuple(ports), endpoints)


def _endpoints(endpoints: Iterable[_Endpoint], size: int) -> tuple[Endpoint, ...]:
    found = []
    for index, endpoint in enumerate(endpoints):
        if not endpoint.addresses:
            continue
        text = endpoint.addresses[0]
        try:
            address = parse_address(text)
        except ValueError:
            raise ManifestError(f"endpoints[{index}]: {text!r} is not an IPv4 or IPv6 address") from None
        if len(address) == size:  # the wrong family is skipped, not an error (EPS-04)
            found.append(_endpoint(address, endpoint))
    return tuple(found)


def _endpoint(address: Address, raw: _Endpoint) -> Endpoint:
    conditions = raw.conditions
    if conditions is None:
        ready, serving, terminating = True, True, False
    else:
        ready = conditions.ready is not False
        serving = conditions.serving is not False
        terminating = conditions.terminating is True
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    if raw.hints is not None:
        zones = tuple(hint.name for hint in raw.hints.forZones or ())
        nodes = tuple(hint.name for hint in raw.hints.forNodes or ())
    node = raw.nodeName and intern(raw.nodeName)
    return Endpoint(address, ready, serving, terminating, node, zones, nodes)


def decode_node(manifest: bytes) -> Node:
    """The Node with its zone label, its addresses and its pod CIDRs."""
    raw = _decode(_node, manifest)
    zone = (raw.metadata.labels or {}).get(ZONE, "")
    spec = raw.spec or _NodeSpec()
    try:
        networks = tuple(parse_network(text) for text in spec.podCIDRs or [spec.podCIDR] if text)
    except ValueError as error:
        raise ManifestError(f"spec.podCIDRs: {error}") from None
    return Node(raw.metadata.name, zone, _of_type(raw, "InternalIP"), _of_type(raw, "ExternalIP"), networks)


def _of_type(raw: _Node, kind: str) -> tuple[Address, ...]:
    listed = (raw.status and raw.status.addresses) or ()
    return tuple([_address("status.addresses", a.address) for a in listed if a.type == kind])
