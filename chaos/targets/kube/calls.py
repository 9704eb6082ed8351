"""The API requests of each operation: whether it is supported, its printed form, its required permissions.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from chaos.model import Op, PlannedFault
from chaos.plan import Plan
from chaos.targets.kube.scene import Scene
from chaos.targets.kube.settings import KubeSettings
from harness.kube.resources import DEPLOYMENTS, NODES, PODS

CAN = {
    "pod.delete": "deletes the pod, with grace",
    "pod.evict": "evicts the pod; a PodDisruptionBudget's 429 is retried for a limited time",
    "pod.signal": "SIGKILL: `exec.kill` in the container, else deletion with grace 0; SIGSTOP, SIGCONT: `exec`",
    "pod.start": "nothing: the kubelet or the pod's controller restarts it",
    "pod.health": "fail, ok: the pod's readiness gate, or `exec.unready` and `exec.ready`; hang: `exec.hang`",
    "node.schedulable": "cordons and uncordons the node",
    "pods.scale": "sets the Deployment's replicas",
}
"""The operations that a cluster's API supports."""


class Permission(msgspec.Struct, frozen=True, order=True):
    """An RBAC permission; `resource` with its subresource after a slash."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        qualified = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {qualified}" + (f" in {self.namespace}" if self.namespace else "")


class Call(msgspec.Struct, frozen=True):
    """One request: its printed form, and the permission it requires (None: none)."""

    text: str
    right: Permission | None = None


def cannot(op: Op, settings: KubeSettings, scene: Scene | None = None) -> str:
    """Why a cluster target does not support the operation; "" if it does."""
    if op.name not in CAN:
        return f"{op.name} is not available through a cluster's API"
    commands, gate = settings.exec, settings.readiness_gate
    match op.name, op.arguments.get("number") or op.arguments.get("word"):
        case "pod.signal", "SIGSTOP" | "SIGCONT" if not (commands.stop and commands.resume):
            return "stopping a pod's process needs the commands `exec: {stop, continue}` in the `kube:` section"
        case "pod.signal", number if number not in ("SIGKILL", "SIGSTOP", "SIGCONT"):
            return f"{number} is not sent"
        case "pod.health", "hang" if not (commands.hang and commands.ready):
            return "a probe that hangs needs the commands `exec: {hang, ready}` in the `kube:` section"
        case "pod.health", "fail" if not (gate or (commands.unready and commands.ready)):
            return "failing readiness needs `readiness_gate`, or `exec: {unready, ready}`, in the `kube:` section"
        case "pods.scale", _ if scene is not None and not scene.deployment:
            return "the pods do not belong to a Deployment that could be scaled"
    return ""


def calls_of(op: Op, settings: KubeSettings, scene: Scene) -> list[Call]:
    """The requests of a supported operation."""
    namespace = op.arguments.get("namespace") or scene.namespace
    pod = op.arguments.get("pod", "")
    path = PODS.path(namespace, pod)
    match op.name:
        case "pod.delete":
            return [_delete(path, namespace, op.arguments.get("grace_seconds"))]
        case "pod.evict":
            return [Call(f"POST {path}/eviction", Permission("create", "", "pods/eviction", namespace))]
        case "pod.signal" if op.arguments["number"] == "SIGKILL" and not settings.exec.kill:
            return [_delete(path, namespace, 0)]
        case "pod.signal":
            return [_exec(path, namespace, signal_command(settings, op.arguments["number"]))]
        case "pod.health" if settings.readiness_gate and op.arguments["word"] != "hang":
            status = "True" if op.arguments["word"] == "ok" else "False"
            text = f"PATCH {path}/status  {settings.readiness_gate}={status}"
            return [Call(text, Permission("patch", "", "pods/status", namespace))]
        case "pod.health":
            return [_exec(path, namespace, health_command(settings, op.arguments["word"]))]
        case "node.schedulable":
            wanted = str(not op.arguments["schedulable"]).lower()
            text = f"PATCH {NODES.path(name=op.arguments['node'])}  unschedulable={wanted}"
            return [Call(text, Permission("patch", "", "nodes"))]
        case "pods.scale":
            path = f"{DEPLOYMENTS.path(namespace, scene.deployment)}/scale"
            right = Permission("patch", "apps", "deployments/scale", namespace)
            return [Call(f"PATCH {path}  replicas={op.arguments['replicas']}", right)]
    return []


def signal_command(settings: KubeSettings, number: str) -> tuple[str, ...]:
    """The command that sends the signal."""
    commands = settings.exec
    return {"SIGKILL": commands.kill, "SIGSTOP": commands.stop, "SIGCONT": commands.resume}[number]


def health_command(settings: KubeSettings, word: str) -> tuple[str, ...]:
    """The command that gives the probe that result."""
    commands = settings.exec
    return {"fail": commands.unready, "hang": commands.hang, "ok": commands.ready}[word]


def _delete(path: str, namespace: str, grace: int | None) -> Call:
    return Call(f"DELETE {path}  gracePeriodSeconds={grace}", Permission("delete", "", "pods", namespace))


def _exec(path: str, namespace: str, command: tuple[str, ...]) -> Call:
    return Call(f"EXEC {path}  `{' '.join(command)}`", Permission("create", "", "pods/exec", namespace))


def takes_away(step: PlannedFault, settings: KubeSettings) -> frozenset[str]:
    """Pods whose names will not exist after the step."""
    return frozenset(
        op.arguments["pod"]
        for op in step.script.inject
        if op.name in ("pod.delete", "pod.evict")
        or (op.name == "pod.signal" and op.arguments["number"] == "SIGKILL" and not settings.exec.kill)
    )


def rights_of(plan: Plan, settings: KubeSettings, scene: Scene, namespaces: Iterable[str]) -> list[Permission]:
    """All permissions that a run requires, to read and to write."""
    found = {
        Permission("list", "", "nodes"),
        Permission("watch", "", "nodes"),
        Permission("get", "", "services", scene.namespace),
    }
    for namespace in {*namespaces, scene.namespace}:
        found |= {Permission(verb, "", "pods", namespace) for verb in ("get", "list")}
    for verb in ("list", "watch"):
        found |= {Permission(verb, "", resource, scene.namespace) for resource in ("pods", "services")}
        found.add(Permission(verb, "discovery.k8s.io", "endpointslices", scene.namespace))
    if scene.deployment:
        found.add(Permission("get", "apps", "deployments/scale", scene.namespace))
    for step in plan.steps:
        for op in (*step.script.inject, *step.script.heal):
            found |= {call.right for call in calls_of(op, settings, scene) if call.right}
    # A WebSocket is opened by GET and authorized as such; servers since 1.35 also require create.
    found |= {msgspec.structs.replace(right, verb="get") for right in found if right.resource == "pods/exec"}
    return sorted(found)
