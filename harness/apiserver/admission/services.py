"""Validation of a Service: ValidateService and ValidateServiceUpdate, for the fields that a proxy reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.apiserver.admission import checks
from harness.apiserver.admission.service_defaults import family_of, is_outside, needs_health_check
from harness.apiserver.errors import Cause

Spec = dict[str, Any]
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
PROTOCOLS = ("SCTP", "TCP", "UDP")
POLICIES = ("Cluster", "Local")
DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
KUBELET_PORT = 10250
AFFINITY_LIMIT_SECONDS = 86400
_INGRESS = "status.loadBalancer.ingress"


def faults(new: dict[str, Any], old: dict[str, Any] | None, families: tuple[str, ...]) -> list[Cause]:
    """All validation errors; `families` are the cluster's."""
    spec = new["spec"]
    causes = list(checks.service_name("metadata.name", new["metadata"]["name"]))
    for part in (_of_type, _ports, _affinity, _addresses, _outer_addresses, _policies):
        causes += part(spec)
    causes += _families_of_cluster(spec, families)
    causes += _changed(spec, (old or {}).get("spec") or {})
    return causes


def status_faults(new: dict[str, Any]) -> list[Cause]:
    """Validation errors of its status (ValidateLoadBalancerStatus)."""
    ingress = new["status"]["loadBalancer"].get("ingress") or ()
    if ingress and new["spec"].get("type") != "LoadBalancer":
        return [checks.forbidden(_INGRESS, "may only be used when `spec.type` is LoadBalancer")]
    return [cause for number, each in enumerate(ingress) for cause in _ingress(f"{_INGRESS}[{number}]", each)]


def _ingress(field: str, ingress: Spec) -> Iterator[Cause]:
    if ingress.get("ip"):
        yield from checks.address(f"{field}.ip", ingress["ip"])
        yield from checks.one_of(f"{field}.ipMode", ingress["ipMode"], ("Proxy", "VIP"))
    elif ingress.get("ipMode") is not None:
        yield checks.forbidden(f"{field}.ipMode", "may not be specified when `ip` is not set")
    if ingress.get("hostname"):
        yield from checks.subdomain(f"{field}.hostname", ingress["hostname"])


def _is_headless(spec: Spec) -> bool:
    return spec.get("clusterIP") == "None" or (spec.get("clusterIPs") or [""])[0] == "None"


def _of_type(spec: Spec) -> Iterator[Cause]:
    kind = spec["type"]
    yield from checks.one_of("spec.type", kind, TYPES)
    if not spec.get("ports") and not _is_headless(spec) and kind != "ExternalName":
        yield checks.required("spec.ports")
    if kind in ("LoadBalancer", "NodePort") and _is_headless(spec):
        yield checks.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind == "ExternalName":
        yield from _external_name(spec)
    if kind == "LoadBalancer":
        why = f"may not expose port {KUBELET_PORT} externally since it is used by kubelet"
        for number, port in enumerate(spec.get("ports") or ()):
            if port.get("port") == KUBELET_PORT:
                yield checks.invalid(f"spec.ports[{number}]", KUBELET_PORT, why)


def _external_name(spec: Spec) -> Iterator[Cause]:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        given = spec.get(field) or (field == "clusterIPs" and spec.get("clusterIP"))
        if given:
            yield checks.forbidden(f"spec.{field}", "may not be set for ExternalName services")
    name = (spec.get("externalName") or "").removesuffix(".")
    if name:
        yield from checks.subdomain("spec.externalName", name)
    else:
        yield checks.required("spec.externalName")


def _ports(spec: Spec) -> Iterator[Cause]:
    ports = spec.get("ports") or []
    names: set[str] = set()
    for number, port in enumerate(ports):
        field = f"spec.ports[{number}]"
        yield from _port_name(f"{field}.name", port.get("name", ""), len(ports) > 1, names)
        yield from checks.port_number(f"{field}.port", port.get("port", 0))
        yield from checks.one_of(f"{field}.protocol", port["protocol"], PROTOCOLS)
        yield from checks.port_number_or_name(f"{field}.targetPort", port.get("targetPort", 0))
        if spec["type"] == "ClusterIP" and port.get("nodePort"):
            yield checks.forbidden(f"{field}.nodePort", "may not be used when `type` is 'ClusterIP'")
    yield from _twice(ports)


def _port_name(field: str, name: str, needed: bool, names: set[str]) -> Iterator[Cause]:
    if name:
        yield from checks.label(field, name)
        if name in names:
            yield checks.duplicate(field, name)
        names.add(name)
    elif needed:
        yield checks.required(field)


def _twice(ports: list[Spec]) -> Iterator[Cause]:
    for key in ("nodePort", "port"):
        seen: set[tuple[str, int]] = set()
        for number, port in enumerate(ports):
            place = (port["protocol"], port.get(key, 0))
            if place in seen and place[1]:
                field = f"spec.ports[{number}]"
                if key == "nodePort":
                    yield checks.duplicate(f"{field}.nodePort", place[1])
                else:
                    yield checks.duplicate(field, {"protocol": place[0], "port": place[1]})
            seen.add(place)


def _affinity(spec: Spec) -> Iterator[Cause]:
    kind, config = spec["sessionAffinity"], spec.get("sessionAffinityConfig") or {}
    yield from checks.one_of("spec.sessionAffinity", kind, ("ClientIP", "None"))
    if kind == "None" and "sessionAffinityConfig" in spec:
        yield checks.forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None")
    if kind == "ClientIP":
        seconds = config["clientIP"]["timeoutSeconds"]
        if not 0 < seconds <= AFFINITY_LIMIT_SECONDS:
            why = f"must be greater than 0 and less than {AFFINITY_LIMIT_SECONDS}"
            yield checks.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, why)


def _addresses(spec: Spec) -> Iterator[Cause]:
    """ValidateServiceClusterIPsRelatedFields."""
    if spec["type"] == "ExternalName":
        return
    addresses, families = spec.get("clusterIPs") or [], spec["ipFamilies"]
    yield from checks.one_of("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], FAMILY_POLICIES)
    for number, family in enumerate(families):
        yield from checks.one_of(f"spec.ipFamilies[{number}]", family, FAMILIES)
        if family in families[:number]:
            yield checks.duplicate(f"spec.ipFamilies[{number}]", family)
    if addresses and not spec.get("clusterIP"):
        yield checks.invalid("spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified")
    elif addresses and addresses[0] != spec["clusterIP"]:
        yield checks.invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    if len(addresses) > 2:
        yield checks.invalid("spec.clusterIPs", addresses, "may only hold up to 2 values")
    for number in range(len(addresses)):
        yield from _cluster_ip(f"spec.clusterIPs[{number}]", number, addresses, families)


def _cluster_ip(field: str, number: int, addresses: list[str], families: list[str]) -> Iterator[Cause]:
    address = addresses[number]
    if address == "None":
        if len(addresses) > 1:
            yield checks.invalid(field, address, "must be empty or a valid IP address, 'None' must be the only value")
    elif causes := checks.address(field, address):
        yield from causes
    elif number < len(families) and family_of(address) != families[number]:
        why = f"expected an {families[number]} value as indicated by `ipFamilies[{number}]`"
        yield checks.invalid(field, address, why)
    elif number >= len(families):
        yield checks.invalid(field, address, "more values than `ipFamilies`")


def _families_of_cluster(spec: Spec, families: tuple[str, ...]) -> Iterator[Cause]:
    if spec["type"] == "ExternalName":
        return
    for number, family in enumerate(spec["ipFamilies"]):
        if family in FAMILIES and family not in families:
            yield checks.invalid(f"spec.ipFamilies[{number}]", family, "not configured on this cluster")
    policy = spec["ipFamilyPolicy"]
    if policy == "RequireDualStack" and len(families) < 2:
        why = "this cluster is not configured for dual-stack services"
        yield checks.invalid("spec.ipFamilyPolicy", policy, why)
    if policy == "SingleStack" and len(spec["ipFamilies"]) > 1:
        why = "must be RequireDualStack or PreferDualStack when multiple 'ipFamilies' are specified"
        yield checks.invalid("spec.ipFamilyPolicy", policy, why)


def _outer_addresses(spec: Spec) -> Iterator[Cause]:
    for number, address in enumerate(spec.get("externalIPs") or ()):
        yield from checks.outer_address(f"spec.externalIPs[{number}]", address)
    ranges = spec.get("loadBalancerSourceRanges") or ()
    if ranges and spec["type"] != "LoadBalancer":
        yield checks.forbidden("spec.loadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'")
    for number, network in enumerate(ranges):
        yield from checks.network(f"spec.loadBalancerSourceRanges[{number}]", network)
    if spec["type"] != "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not None:
        yield checks.forbidden("spec.allocateLoadBalancerNodePorts", "may only be used when `type` is 'LoadBalancer'")


def _policies(spec: Spec) -> Iterator[Cause]:
    outside, policy = is_outside(spec), spec.get("externalTrafficPolicy")
    if outside:
        yield from checks.one_of("spec.externalTrafficPolicy", policy, POLICIES)
    elif policy:
        yield checks.invalid("spec.externalTrafficPolicy", policy, "may only be set for externally-accessible services")
    if (port := spec.get("healthCheckNodePort")) and not needs_health_check(spec):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield checks.invalid("spec.healthCheckNodePort", port, why)
    elif port:
        yield from checks.port_number("spec.healthCheckNodePort", port)
    if spec.get("internalTrafficPolicy") is not None:
        yield from checks.one_of("spec.internalTrafficPolicy", spec["internalTrafficPolicy"], POLICIES)
    if spec.get("trafficDistribution") is not None:
        yield from checks.one_of("spec.trafficDistribution", spec["trafficDistribution"], DISTRIBUTIONS)


def _changed(spec: Spec, before: Spec) -> Iterator[Cause]:
    """Errors for changed fields that are immutable."""
    old, new = before.get("clusterIPs") or [before.get("clusterIP")], spec.get("clusterIPs") or []
    if old[0] and spec["type"] != "ExternalName" and new[:1] != old[:1]:
        yield checks.invalid("spec.clusterIPs[0]", (new or [""])[0], "may not change once set")
    port = before.get("healthCheckNodePort")
    if port and needs_health_check(spec) and spec.get("healthCheckNodePort", port) != port:
        yield checks.forbidden("spec.healthCheckNodePort", "field is immutable")
