"""The part of a cluster that a run affects, as values parsed from the API's manifests.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from chaos.model import Cluster, Op, PlanError, Pod
from chaos.plan import Plan
from chaos.targets.kube.settings import KubeSettings
from harness.kube.resources import Manifest
from harness.lab.answers import PortStatus, ServiceStatus

MODE = "cluster"
"""Used in place of a lab's proxy mode, as a cluster's mode cannot be determined from outside."""

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
MIRROR = "kubernetes.io/config.mirror"
ENDED = ("Succeeded", "Failed")


class PodView(msgspec.Struct, frozen=True):
    """A pod, from the API; `running` and `restarts` over all its containers, `gate` is the gate condition's status."""

    name: str
    namespace: str
    uid: str
    node: str
    address: str
    ready: bool
    running: bool
    restarts: int
    terminating: bool
    owner: str
    gates: tuple[str, ...]
    conditions: dict[str, str]
    evictable: bool


class NodeView(msgspec.Struct, frozen=True):
    """A node; `address` is "" if it has none of the requested type."""

    name: str
    address: str
    schedulable: bool
    ready: bool
    control_plane: bool


class Scene(msgspec.Struct, frozen=True):
    """`pods` are the Service's, `others` the other pods of the allowed namespaces; `deployment` is "" if unknown.

    `service` has the form of a load's spec, `selector` is the Service's own.
    """

    server: str
    context: str
    namespace: str
    service_name: str
    service: ServiceStatus
    selector: dict[str, str]
    pods: tuple[PodView, ...]
    others: tuple[PodView, ...]
    nodes: tuple[NodeView, ...]
    deployment: str = ""
    replicas: int | None = None

    @property
    def cluster(self) -> Cluster:
        """The possible targets of faults: schedulable nodes and running pods."""
        nodes = [n.name for n in self.nodes if n.schedulable and n.ready and not n.control_plane]
        pods = [Pod(p.name, p.node, p.address) for p in self.pods if p.running and not p.terminating]
        return Cluster(tuple(sorted(nodes)), tuple(sorted(pods, key=lambda pod: pod.name)), MODE)

    @property
    def settled(self) -> bool:
        """Whether the desired number of pods exists, all ready and none terminating."""
        wanted = self.replicas in (None, len(self.pods))
        return bool(self.pods) and wanted and all(p.ready and not p.terminating for p in self.pods)


def pod_view(manifest: Manifest) -> PodView:
    """Parses a Pod's manifest."""
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    containers = status.get("containerStatuses") or []
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    controller = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), None)
    owner = f"{controller['kind']}/{controller['name']}" if controller else ""
    ended = status.get("phase") in ENDED
    return PodView(
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        uid=metadata.get("uid", ""),
        node=spec.get("nodeName") or "",
        address=status.get("podIP") or "",
        ready=conditions.get("Ready") == "True",
        running=status.get("phase") == "Running" and all("running" in (c.get("state") or {}) for c in containers),
        restarts=sum(c.get("restartCount") or 0 for c in containers),
        terminating="deletionTimestamp" in metadata,
        owner=owner,
        gates=tuple(g["conditionType"] for g in spec.get("readinessGates") or ()),
        conditions=conditions,
        # As in kubectl drain: a DaemonSet's pods come back at once, and a static pod cannot be evicted.
        evictable=not ended
        and not owner.startswith("DaemonSet/")
        and MIRROR not in (metadata.get("annotations") or {}),
    )


def node_view(manifest: Manifest, address_type: str) -> NodeView:
    """Parses a Node's manifest, with its first IPv4 address of that type."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    addresses = [a["address"] for a in status.get("addresses") or () if a["type"] == address_type]
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return NodeView(
        name=metadata["name"],
        address=next((address for address in addresses if ":" not in address), ""),
        schedulable=not (manifest.get("spec") or {}).get("unschedulable"),
        ready=conditions.get("Ready") == "True",
        control_plane=CONTROL_PLANE in (metadata.get("labels") or {}),
    )


def service_view(manifest: Manifest, settings: KubeSettings) -> ServiceStatus:
    """The Service in the form of a load's spec: `web`, with ports by the flows' names."""
    spec = manifest["spec"]
    ports = spec.get("ports") or []
    found: dict[str, PortStatus] = {}
    for wanted in ("http", "tcp", "udp"):
        protocol = "UDP" if wanted == "udp" else "TCP"
        fitting = [port for port in ports if port.get("protocol", "TCP") == protocol]
        name = settings.ports.get(wanted, wanted)
        chosen = next((port for port in fitting if port.get("name") == name), None)
        if chosen is None and wanted in settings.ports:
            raise PlanError(f"Service {settings.service} has no {protocol} port {name!r}, which is listed in `ports`")
        if chosen is None and wanted == "http" and fitting:
            chosen = fitting[0]
        if chosen:
            found[wanted] = PortStatus(chosen["port"], chosen.get("nodePort"))
    ingress = ((manifest.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [{}]
    cluster_ip = spec.get("clusterIP")
    return ServiceStatus(
        name="web",
        cluster_ip=None if cluster_ip in (None, "", "None") else cluster_ip,
        balancer=ingress[0].get("ip"),
        ports=found,
    )


def drained(plan: Plan, scene: Scene) -> Plan:
    """The plan with a drained node's other pods evicted too, in allowed namespaces."""
    steps = []
    for step in plan.steps:
        cordoned = [op.arguments["node"] for op in step.script.inject if _cordons(op)]
        more = tuple(
            Op(0, "pod.evict", {"pod": pod.name, "namespace": pod.namespace})
            for pod in scene.others
            if pod.node in cordoned and pod.evictable and not pod.terminating
        )
        script = msgspec.structs.replace(step.script, inject=step.script.inject + more)
        steps.append(msgspec.structs.replace(step, script=script))
    return msgspec.structs.replace(plan, steps=tuple(steps))


def _cordons(op: Op) -> bool:
    return op.name == "node.schedulable" and not op.arguments["schedulable"]


def matches(selector: dict[str, str], manifest: Manifest) -> bool:
    """Whether a Service's selector matches the pod."""
    labels = manifest["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def sorted_pods(pods: Iterable[PodView]) -> tuple[PodView, ...]:
    """Sort key: namespace and name."""
    return tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name)))
