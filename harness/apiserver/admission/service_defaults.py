"""Defaults of a Service, and the values that an update keeps from the old object if it omits them.

SetDefaults_Service; defaultOnWrite, patchAllocatedValues and dropTypeDependentFields of the Service registry.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]
AFFINITY_SECONDS = 10800


def complete(new: dict[str, Any], old: dict[str, Any] | None, families: tuple[str, ...]) -> dict[str, Any]:
    """The Service with defaults, and with the allocated values of `old` that it omits."""
    spec = {key: value for key, value in (new.get("spec") or {}).items() if value is not None}
    before = (old or {}).get("spec") or {}
    spec = _without_what_the_type_drops(spec, before)
    spec = _with_defaults(spec)
    if spec["type"] != "ExternalName":
        spec = _with_kept_values(spec, before)
        spec = _with_families(spec, families)
    status = {"loadBalancer": {}} if old is None or "status" not in new else new["status"]
    return {**new, "spec": spec, "status": status}


def with_status(new: dict[str, Any]) -> dict[str, Any]:
    """The status with the mode filled in for every ingress with an address."""
    balancer = (new.get("status") or {}).get("loadBalancer") or {}
    ingress = [{"ipMode": "VIP", **each} if each.get("ip") else each for each in balancer.get("ingress") or ()]
    shown = {**balancer, "ingress": ingress} if ingress else balancer
    return {**new, "status": {**(new.get("status") or {}), "loadBalancer": shown}}


def is_outside(spec: Spec) -> bool:
    """Whether it can be reached from outside the cluster."""
    return spec["type"] in ("NodePort", "LoadBalancer") or (
        spec["type"] == "ClusterIP" and bool(spec.get("externalIPs"))
    )


def needs_health_check(spec: Spec) -> bool:
    """Whether it has a health check node port."""
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def needs_node_ports(spec: Spec) -> bool:
    """Whether ports without a node port get one."""
    return spec["type"] == "NodePort" or (
        spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    )


def _with_defaults(spec: Spec) -> Spec:
    spec = {"type": "ClusterIP", "sessionAffinity": "None", **spec}
    spec["ports"] = [_port(port) for port in spec.get("ports") or ()]
    if not spec["ports"]:
        del spec["ports"]
    if spec["sessionAffinity"] == "ClientIP" and not _timeout_given(spec):
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}
    if is_outside(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    return spec


def _timeout_given(spec: Spec) -> bool:
    return ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds") is not None


def _port(port: Spec) -> Spec:
    port = {"protocol": "TCP", **{key: value for key, value in port.items() if value not in (None, "")}}
    if port.get("targetPort") in (None, 0) and "port" in port:
        port["targetPort"] = port["port"]
    if port.get("nodePort") == 0:
        del port["nodePort"]
    return port


def _with_families(spec: Spec, families: tuple[str, ...]) -> Spec:
    """Normalize the addresses, and fill in policy and families as far as they can be derived from each other."""
    spec = dict(spec)
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    given = [family_of(address) for address in spec.get("clusterIPs") or () if address != "None"]
    two = len(given) == 2 or len(spec.get("ipFamilies") or ()) == 2
    spec.setdefault("ipFamilyPolicy", "RequireDualStack" if two else "SingleStack")
    found = list(spec.get("ipFamilies") or ()) or given or list(families[:1])
    if spec["ipFamilyPolicy"] != "SingleStack" and len(found) == 1:
        found += [family for family in families if family not in found]
    spec["ipFamilies"] = found
    return spec


def family_of(address: str) -> str:
    """`IPv6` if it is written like one."""
    return "IPv6" if ":" in address else "IPv4"


def _without_what_the_type_drops(spec: Spec, before: Spec) -> Spec:
    """Drop unchanged fields that belong only to the old type."""
    kind, dropped = spec.get("type", "ClusterIP"), set()
    if not before:
        return spec
    if kind == "ExternalName" and before.get("type") != "ExternalName":
        dropped |= {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"}
    if kind not in ("NodePort", "LoadBalancer"):
        ports = zip(spec.get("ports") or (), _node_ports(spec, before), strict=False)
        kept = [{k: v for k, v in port.items() if k != "nodePort" or not same} for port, same in ports]
        spec = {**spec, "ports": kept} if kept else spec
        if not spec.get("externalIPs") or kind != "ClusterIP":
            dropped.add("externalTrafficPolicy")
    if kind != "LoadBalancer":
        dropped |= {"allocateLoadBalancerNodePorts", "loadBalancerClass"}
    if kind != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
        dropped.add("healthCheckNodePort")
    return {key: value for key, value in spec.items() if key not in dropped or value != before.get(key)}


def _node_ports(spec: Spec, before: Spec) -> list[bool]:
    """For each port, whether its node port is one that the old object had."""
    known = {port.get("nodePort") for port in before.get("ports") or ()} - {None}
    return [port.get("nodePort") in known for port in spec.get("ports") or ()]


def _with_kept_values(spec: Spec, before: Spec) -> Spec:
    """Keep addresses and node ports that the update omits; node ports are matched by port and protocol."""
    spec = dict(spec)
    if before.get("type", "ClusterIP") != "ExternalName" and not spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec |= {key: before[key] for key in ("clusterIP", "clusterIPs") if before.get(key)}
        spec |= {key: before[key] for key in ("ipFamilies", "ipFamilyPolicy") if before.get(key) and not spec.get(key)}
    if needs_node_ports(spec):
        old = {_place(port): port["nodePort"] for port in before.get("ports") or () if port.get("nodePort")}
        used = {(port["protocol"], port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")}
        spec["ports"] = [_with_old_node_port(port, old, used) for port in spec.get("ports") or ()]
    if needs_health_check(spec) and before.get("healthCheckNodePort"):
        spec.setdefault("healthCheckNodePort", before["healthCheckNodePort"])
    return spec


def _with_old_node_port(port: Spec, old: dict[tuple[str, Any], int], used: set[tuple[str, int]]) -> Spec:
    number = old.get(_place(port))
    if port.get("nodePort") or number is None or (port["protocol"], number) in used:
        return port
    return {**port, "nodePort": number}


def _place(port: Spec) -> tuple[str, Any]:
    return port.get("protocol", "TCP"), port.get("port")
