"""The columns that kubectl shows for each resource, and how they are computed from a manifest.

Names, order and priority (0 always, 1 with `-o wide`) are those of the API server's printers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from harness.kube.resources import Manifest

NONE, UNKNOWN = "<none>", "<unknown>"


class Column(NamedTuple):
    """One column; `cell` computes its value from the manifest."""

    name: str
    cell: Callable[[Manifest], Any]
    priority: int = 0
    type: str = "string"
    format: str = ""

    def definition(self) -> dict[str, Any]:
        """The columnDefinition of a Table."""
        described = f"{self.name} of the object"
        fields = {"name": self.name, "type": self.type, "format": self.format, "description": described}
        return fields | {"priority": self.priority}


def at(manifest: Manifest, *path: str) -> Any:
    """The value at a path, None if absent."""
    value: Any = manifest
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """The age in kubectl's format: 5s, 3m10s, 5h, 2d3h, 12d."""
    if not timestamp:
        return UNKNOWN
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return "<invalid>"
    seconds = int(((now or datetime.now(UTC)) - then).total_seconds())
    return "<invalid>" if seconds < -1 else human_duration(max(seconds, 0))


def human_duration(seconds: int) -> str:
    """As apimachinery's HumanDuration: two units while the first is small, then one."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"


def _age(manifest: Manifest) -> str:
    return age(at(manifest, "metadata", "creationTimestamp"))


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _joined(values: list[str], most: int | None = None) -> str:
    """Comma-separated; after `most` values, the number of the rest."""
    if most is None or len(values) <= most:
        return ",".join(values) or NONE
    return f"{','.join(values[:most])} + {len(values) - most} more..."


def _external_ip(service: Manifest) -> str:
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return spec.get("externalName") or NONE
    given = [ip.get("ip") or ip.get("hostname") for ip in at(service, "status", "loadBalancer", "ingress") or ()]
    found = [*dict.fromkeys([*given, *(spec.get("externalIPs") or ())])]
    if spec.get("type") == "LoadBalancer":
        return ",".join(found) or "<pending>"
    return _joined(spec.get("externalIPs") or [])


def _service_ports(service: Manifest) -> str:
    return _joined([_service_port(port) for port in at(service, "spec", "ports") or ()])


def _service_port(port: Manifest) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node_port}/{port.get('protocol') or 'TCP'}"


def _selector(service: Manifest) -> str:
    return _joined([f"{key}={value}" for key, value in sorted((at(service, "spec", "selector") or {}).items())])


def _cluster_ip(service: Manifest) -> str:
    addresses = at(service, "spec", "clusterIPs") or [at(service, "spec", "clusterIP") or NONE]
    return addresses[0] or NONE


def _slice_ports(found: Manifest) -> str:
    ports = found.get("ports")
    if ports is None:
        return "<unset>"
    return _joined(
        [str(port.get("name") or "*") if port.get("port") is None else str(port["port"]) for port in ports], 3
    )


def _slice_endpoints(found: Manifest) -> str:
    endpoints = found.get("endpoints")
    if not endpoints:
        return "<unset>"
    return _joined([address for endpoint in endpoints for address in endpoint.get("addresses") or ()], 3)


def _node_status(node: Manifest) -> str:
    conditions = {c.get("type"): c.get("status") for c in at(node, "status", "conditions") or ()}
    word = {None: "Unknown", "True": "Ready"}.get(conditions.get("Ready"), "NotReady")
    return f"{word},SchedulingDisabled" if at(node, "spec", "unschedulable") else word


def _node_roles(node: Manifest) -> str:
    labels, prefix = at(node, "metadata", "labels") or {}, "node-role.kubernetes.io/"
    return _joined(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix)))


def _node_address(kind: str) -> Callable[[Manifest], str]:
    def cell(node: Manifest) -> str:
        addresses = at(node, "status", "addresses") or ()
        return next((a.get("address") for a in addresses if a.get("type") == kind), NONE)

    return cell


def _node_info(field: str, absent: str = UNKNOWN) -> Callable[[Manifest], str]:
    return lambda node: at(node, "status", "nodeInfo", field) or absent


def _containers(pod: Manifest) -> list[Manifest]:
    return at(pod, "status", "containerStatuses") or []


def _pod_ready(pod: Manifest) -> str:
    ready = sum(bool(container.get("ready")) for container in _containers(pod))
    return f"{ready}/{len(at(pod, 'spec', 'containers') or ())}"


def _pod_status(pod: Manifest) -> str:
    reason = at(pod, "status", "reason") or at(pod, "status", "phase") or ""
    for container in _containers(pod):
        state = container.get("state") or {}
        reason = at(state, "waiting", "reason") or at(state, "terminated", "reason") or reason
    if at(pod, "metadata", "deletionTimestamp"):
        return "Unknown" if at(pod, "status", "reason") == "NodeLost" else "Terminating"
    return reason


def _pod_restarts(pod: Manifest) -> str:
    return str(sum(container.get("restartCount", 0) for container in _containers(pod)))


def _pod_ip(pod: Manifest) -> str:
    addresses = at(pod, "status", "podIPs") or []
    return at(pod, "status", "podIP") or (addresses[0].get("ip") if addresses else NONE)


def _pod_gates(pod: Manifest) -> str:
    gates = [gate.get("conditionType") for gate in at(pod, "spec", "readinessGates") or ()]
    if not gates:
        return NONE
    true = {c.get("type") for c in at(pod, "status", "conditions") or () if c.get("status") == "True"}
    return f"{sum(gate in true for gate in gates)}/{len(gates)}"


def _event_seen(event: Manifest) -> str:
    newest = at(event, "series", "lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return age(newest or at(event, "metadata", "creationTimestamp"))


def _event_first(event: Manifest) -> str:
    return age(event.get("firstTimestamp") or event.get("eventTime") or at(event, "metadata", "creationTimestamp"))


def _event_object(event: Manifest) -> str:
    about = event.get("involvedObject") or event.get("regarding") or {}
    kind = (about.get("kind") or "").lower()
    return f"{kind}/{about['name']}" if about.get("name") else kind


def _event_source(event: Manifest) -> str:
    source = event.get("source") or event.get("deprecatedSource") or {}
    component = source.get("component") or event.get("reportingComponent") or event.get("reportingController") or ""
    return ", ".join(filter(None, (component, source.get("host") or event.get("reportingInstance"))))


def _event_count(event: Manifest) -> int:
    return at(event, "series", "count") or event.get("count") or event.get("deprecatedCount") or 1


def _field(*path: str, absent: str = NONE) -> Callable[[Manifest], Any]:
    return lambda manifest: at(manifest, *path) or absent


NAME = Column("Name", _name, format="name")
AGE = Column("Age", _age)
DEFAULT = (NAME, AGE)

_EVENTS = (
    Column("Last Seen", _event_seen),
    Column("Type", _field("type", absent="")),
    Column("Reason", _field("reason", absent="")),
    Column("Object", _event_object),
    Column("Subobject", _field("involvedObject", "fieldPath", absent=""), 1),
    Column("Source", _event_source, 1),
    Column("Message", lambda event: (event.get("message") or event.get("note") or "").strip()),
    Column("First Seen", _event_first, 1),
    Column("Count", _event_count, 1),
    Column("Name", _name, 1, format="name"),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "services": (
        NAME,
        Column("Type", _field("spec", "type", absent="ClusterIP")),
        Column("Cluster-IP", _cluster_ip),
        Column("External-IP", _external_ip),
        Column("Port(s)", _service_ports),
        AGE,
        Column("Selector", _selector, 1),
    ),
    "endpointslices.discovery.k8s.io": (
        NAME,
        Column("AddressType", _field("addressType", absent="")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        AGE,
    ),
    "nodes": (
        NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        AGE,
        Column("Version", _node_info("kubeletVersion", "")),
        Column("Internal-IP", _node_address("InternalIP"), 1),
        Column("External-IP", _node_address("ExternalIP"), 1),
        Column("OS-Image", _node_info("osImage"), 1),
        Column("Kernel-Version", _node_info("kernelVersion"), 1),
        Column("Container-Runtime", _node_info("containerRuntimeVersion"), 1),
    ),
    "pods": (
        NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _pod_restarts),
        AGE,
        Column("IP", _pod_ip, 1),
        Column("Node", _field("spec", "nodeName"), 1),
        Column("Nominated Node", _field("status", "nominatedNodeName"), 1),
        Column("Readiness Gates", _pod_gates, 1),
    ),
    "namespaces": (NAME, Column("Status", _field("status", "phase", absent="")), AGE),
    "events": _EVENTS,
    "events.events.k8s.io": _EVENTS,
    "servicecidrs.networking.k8s.io": (
        NAME,
        Column("CIDRs", lambda found: _joined(at(found, "spec", "cidrs") or [])),
        AGE,
    ),
    "leases.coordination.k8s.io": (NAME, Column("Holder", _field("spec", "holderIdentity", absent="")), AGE),
}
