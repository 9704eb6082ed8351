"""Carries out a plan's operations on a cluster, and restores what it changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from chaos.model import Cluster, Condition, Op
from chaos.perform import TargetError
from chaos.targets.kube.api import STRATEGIC, CallError, KubeApi, NotFound, node_path, pod_path, scale_path
from chaos.targets.kube.calls import cannot, health_command, signal_command
from chaos.targets.kube.scene import PodView, Scene, matches, node_view, pod_view
from chaos.targets.kube.settings import KubeSettings
from chaos.targets.kube.undo import HealFile, Undo
from chaos.targets.kube.watch import ClusterLog
from harness.kube.resources import NODES

RETRY_SECONDS = 1.0
PUT_BACK_SECONDS = 30.0
RIGHTS = "the permissions that a run requires: docs/chaos.md, `On a real cluster`"


class KubeTarget:
    """A `ChaosTarget` around a cluster's API; `scene` is the state before the first fault."""

    def __init__(self, api: KubeApi, settings: KubeSettings, scene: Scene, heal: HealFile, log: ClusterLog) -> None:
        self._api, self._settings, self._scene, self._heal, self._log = api, settings, scene, heal, log
        self._known = {(pod.namespace, pod.name): pod for pod in (*scene.pods, *scene.others)}
        self._restarts = {pod.name: pod.restarts for pod in scene.pods}

    def cluster(self) -> Cluster:
        """The cluster for which the plan was made."""
        return self._scene.cluster

    def can(self, op: Op) -> str:
        """See `calls.CAN`."""
        return cannot(op, self._settings, self._scene)

    def perform(self, op: Op) -> None:
        """Carry out the operation, after saving the state that it changes."""
        if why := self.can(op):
            raise TargetError(why)
        try:
            self._perform(op)
        except CallError as error:
            raise TargetError(f"{error}; {RIGHTS}" if error.status in (401, 403) else str(error)) from None

    def _perform(self, op: Op) -> None:
        match op.name:
            case "pod.delete":
                self._delete(op, op.arguments.get("grace_seconds"))
            case "pod.evict":
                self._evict(op)
            case "pod.signal":
                self._signal(op, op.arguments["number"])
            case "pod.health":
                self._health(op, op.arguments["word"])
            case "node.schedulable":
                self._schedulable(op.arguments["node"], op.arguments["schedulable"])
            case "pods.scale":
                self._scale(op.arguments["replicas"])

    def _pod(self, op: Op) -> PodView:
        return self._known[op.arguments.get("namespace") or self._scene.namespace, op.arguments["pod"]]

    def _delete(self, op: Op, grace_seconds: int | None) -> None:
        pod = self._pod(op)
        self._api.delete(pod_path(pod.namespace, pod.name), grace_seconds, pod.uid)

    def _evict(self, op: Op) -> None:
        """Retry while a disruption budget answers 429, up to the settings' time limit."""
        pod = self._pod(op)
        deadline = time.monotonic() + self._settings.evict_seconds
        while True:
            try:
                return self._api.evict(pod.namespace, pod.name, pod.uid, op.arguments.get("grace_seconds"))
            except NotFound:
                return  # already gone
            except CallError as error:
                if error.status != 429:
                    raise
                if time.monotonic() + RETRY_SECONDS > deadline:
                    waited = f"not within {self._settings.evict_seconds:g} s (`evict_seconds`)"
                    raise CallError(f"{error}; {waited}", 429) from None
            time.sleep(RETRY_SECONDS)

    def _signal(self, op: Op, number: str) -> None:
        pod = self._pod(op)
        if number == "SIGKILL" and not self._settings.exec.kill:
            return self._delete(op, 0)
        if number == "SIGKILL":
            self._note_restarts(pod)
            return self._exec(pod, signal_command(self._settings, number))
        key = f"stopped {pod.namespace}/{pod.name}"
        if number == "SIGSTOP":
            self._heal.before(self._exec_undo(key, pod, self._settings.exec.resume))
            self._exec(pod, self._settings.exec.stop)
        elif not self._put_back(key):
            self._exec(pod, self._settings.exec.resume)

    def _note_restarts(self, pod: PodView) -> None:
        """The kubelet may restart it between two observations: the restart count shows that it was down."""
        now = self._api.get(pod_path(pod.namespace, pod.name))
        self._restarts[pod.name] = pod_view(now).restarts if now else 0

    def _health(self, op: Op, word: str) -> None:
        pod = self._pod(op)
        key = f"readiness {pod.namespace}/{pod.name}"
        by_gate = bool(self._settings.readiness_gate) and word != "hang"
        if word == "ok":
            if not self._put_back(key) and not by_gate:
                self._exec(pod, self._settings.exec.ready)
        elif by_gate:
            gate = self._settings.readiness_gate
            was = {"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid, "type": gate}
            self._heal.before(Undo(key, "condition", {**was, "status": pod.conditions.get(gate, "True")}))
            set_condition(self._api, {**was, "status": "False"})
        else:
            self._heal.before(self._exec_undo(key, pod, self._settings.exec.ready))
            self._exec(pod, health_command(self._settings, word))

    def _schedulable(self, node: str, schedulable: bool) -> None:
        key = f"node {node}"
        if schedulable and self._put_back(key):
            return
        was = next(view.schedulable for view in self._scene.nodes if view.name == node)
        self._heal.before(Undo(key, "node", {"node": node, "unschedulable": not was}))
        self._api.patch(node_path(node), {"spec": {"unschedulable": not schedulable or None}})

    def _scale(self, replicas: int) -> None:
        scene, key = self._scene, f"deployment {self._scene.namespace}/{self._scene.deployment}"
        if replicas == scene.replicas and self._put_back(key):
            return
        where = {"namespace": scene.namespace, "deployment": scene.deployment}
        self._heal.before(Undo(key, "scale", {**where, "replicas": scene.replicas}))
        self._api.patch(scale_path(scene.namespace, scene.deployment), {"spec": {"replicas": replicas}})

    def _exec(self, pod: PodView, command: tuple[str, ...]) -> None:
        self._api.exec(pod.namespace, pod.name, self._settings.container, list(command))

    def _exec_undo(self, key: str, pod: PodView, command: tuple[str, ...]) -> Undo:
        values = {"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid, "container": self._settings.container}
        return Undo(key, "exec", {**values, "command": list(command)})

    def _put_back(self, key: str) -> bool:
        """Restore the state saved under that key; returns whether there was one."""
        undo = self._heal.open.get(key)
        if undo is None:
            return False
        put_back(self._api, undo)
        self._heal.undone(key)
        return True

    def holds(self, conditions: list[Condition]) -> list[bool]:
        """Uses one list request per kind of object."""
        kinds = {condition.kind for condition in conditions}
        try:
            pods = self.pods() if kinds & {"pod", "cluster"} else ()
            nodes = self._api.list(NODES.path()) if "node" in kinds else []
            views = {view.name: view for view in (node_view(node, "") for node in nodes)}
            return [self._holds(condition, pods, views) for condition in conditions]
        except CallError as error:
            raise TargetError(str(error)) from None

    def _holds(self, condition: Condition, pods: tuple[PodView, ...], nodes: dict[str, Any]) -> bool:
        match condition.kind, condition.field:
            case "node", "schedulable":
                return condition.name in nodes and nodes[condition.name].schedulable is condition.value
            case "cluster", "replicas":
                return bool(sum(not pod.terminating for pod in pods) == condition.value)
            case "pod", "terminating" | "running" | "health" | "stopped":
                return self._pod_holds(condition, pods)
        raise TargetError(f"not observable on a cluster: {condition}")

    def _pod_holds(self, condition: Condition, pods: tuple[PodView, ...]) -> bool:
        known = self._known[self._scene.namespace, condition.name]
        pod = next((p for p in pods if p.name == known.name and p.uid == known.uid), None)
        there = pod is not None and not pod.terminating
        ready = pod is not None and pod.ready
        match condition.field, condition.value:
            case "stopped", True:  # sending the signal proves nothing: the kernel drops it for process 1
                return there and not ready
            case "stopped", False:
                return not there or ready
            case "terminating", value:
                return there is not value
            case "running", False:
                return pod is None or not there or not pod.running or pod.restarts > self._restarts[pod.name]
            case "running", _ if pod is not None and there:
                return pod.running
            case "running", _:  # replaced: as many are ready as before
                return sum(p.ready and not p.terminating for p in pods) >= len(self._scene.pods)
            case _, "ok":
                return not there or ready
        return there and not ready  # a failing or hanging probe shows in the readiness that the kubelet reports

    def pods(self) -> tuple[PodView, ...]:
        """The Service's pods now; CallError."""
        listed = self._api.list(pod_path(self._scene.namespace))
        return tuple(pod_view(manifest) for manifest in listed if matches(self._scene.selector, manifest))

    def note(self, what: Mapping[str, object]) -> float:
        """A FAULT event in the run's recording."""
        return self._log.fault(what)

    def now(self) -> float:
        """The recording's clock."""
        return self._log.seconds


def put_back(api: KubeApi, undo: Undo) -> None:
    """Restore saved state; CallError.  Nothing to do if the object is gone, or is another pod of the same name."""
    values = undo.values
    try:
        match undo.kind:
            case "node":
                api.patch(node_path(values["node"]), {"spec": {"unschedulable": values["unschedulable"] or None}})
            case "scale":
                path = scale_path(values["namespace"], values["deployment"])
                api.patch(path, {"spec": {"replicas": values["replicas"]}})
            case "condition" if _same_pod(api, values):
                set_condition(api, values)
            case "exec" if _same_pod(api, values):
                api.exec(values["namespace"], values["pod"], values["container"], values["command"])
    except NotFound:
        return


def put_all_back(api: KubeApi, heal: HealFile, report: Callable[[str], None]) -> list[str]:
    """Restore all open changes, last first, with retries for a limited time; returns those that failed, as text."""
    failed = []
    deadline = time.monotonic() + PUT_BACK_SECONDS
    for key, undo in reversed(list(heal.open.items())):
        while True:
            try:
                put_back(api, undo)
                heal.undone(key)
                report(f"restored: {key}")
                break
            except CallError as error:
                if error.status in (401, 403) or time.monotonic() > deadline:
                    failed.append(f"{key} was not restored: {error}")
                    break
            time.sleep(RETRY_SECONDS)
    return failed


def set_condition(api: KubeApi, values: dict[str, Any]) -> None:
    """Set a pod's status condition, by a patch that merges conditions by their type."""
    path = f"{pod_path(values['namespace'], values['pod'])}/status"
    condition = {"type": values["type"], "status": values["status"], "reason": "Chaos"}
    api.patch(path, {"status": {"conditions": [condition]}}, STRATEGIC)


def _same_pod(api: KubeApi, values: dict[str, Any]) -> bool:
    pod = api.get(pod_path(values["namespace"], values["pod"]))
    return pod is not None and pod["metadata"].get("uid", "") == values["uid"]
