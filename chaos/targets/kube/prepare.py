"""Reads, plans and checks before anything is changed: the first part of a run, and all of a dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from chaos.experiment import Experiment
from chaos.model import PlanError
from chaos.plan import Plan, make_plan
from chaos.targets.kube.api import CallError, KubeApi, NotFound, pod_path, scale_path
from chaos.targets.kube.calls import Permission, calls_of, rights_of, takes_away
from chaos.targets.kube.guard import complaints
from chaos.targets.kube.scene import (
    PodView,
    Scene,
    drained,
    matches,
    node_view,
    pod_view,
    service_view,
    sorted_pods,
)
from chaos.targets.kube.settings import KubeOptions, KubeSettings, settled_settings
from harness.kube.resources import NODES, SERVICES, Manifest
from harness.wording import plural


class Prepared(msgspec.Struct, frozen=True):
    """The present cluster, the plan for it, and the obstacles: `complaints`, and permissions `denied`.

    `unasked` are permissions that the API does not report.
    """

    scene: Scene
    settings: KubeSettings
    plan: Plan
    complaints: tuple[str, ...]
    denied: tuple[Permission, ...]
    unasked: tuple[Permission, ...]
    granted: int

    @property
    def obstacles(self) -> list[str]:
        """All obstacles."""
        return [*self.complaints, *(f"missing permission: {right}" for right in self.denied)]

    def lines(self) -> Iterable[str]:
        """The plan with its targets and API calls, for a terminal."""
        scene = self.scene
        yield f"cluster: {scene.server} (context {scene.context})"
        whose = f", Deployment {scene.deployment} of {scene.replicas}" if scene.deployment else ""
        cluster = scene.cluster
        count = f"{plural(len(scene.pods), 'pod')}{whose}, {plural(len(cluster.nodes), 'node')}"
        yield f"Service {scene.namespace}/{scene.service_name}: {count}"
        yield f"seed {self.plan.seed}"
        for step in self.plan.steps:
            whom = ", ".join(step.nodes or step.pods) or "the Service"
            yield f"{step.number:>3}. {step.fault:<16} {step.seconds:>5g} s  {whom}"
            for sign, ops in (("", step.script.inject), ("heal: ", step.script.heal)):
                for op in ops:
                    for call in calls_of(op, self.settings, scene):
                        yield f"       {op.at:>6.1f} s  {sign}{call.text}"
        rights = f"permissions: {self.granted} granted"
        if self.denied:
            rights += f", {len(self.denied)} missing"
        if self.unasked:
            rights += f", {len(self.unasked)} unknown: the API does not answer SelfSubjectAccessReviews"
        yield rights


def prepare(experiment: Experiment, options: KubeOptions, api: KubeApi) -> Prepared:
    """Read, plan, check.  PlanError if there is no plan, CallError if the cluster does not answer."""
    settings = settled_settings(experiment.kube, options)
    scene = read_scene(api, settings, options)
    plan = make_plan(experiment.faults, scene.cluster, experiment.seed, lambda step: takes_away(step, settings))
    plan = drained(plan, scene)
    found = complaints(plan, scene, settings, options)
    if experiment.kafka:
        found.append("`kafka: true` is for a lab: record the cluster with `harness record --kafka` instead")
    if options.really and not (options.context or options.in_cluster):
        found.append(f"name the cluster: --context {api.context} is the current one (or --in-cluster in a pod)")
    answers: dict[Permission, bool | None] = {}
    if not found:
        for right in rights_of(plan, settings, scene, options.namespaces):
            answers[right] = api.allowed(right)
    return Prepared(
        scene,
        settings,
        plan,
        tuple(found),
        tuple(right for right, answer in answers.items() if answer is False),
        tuple(right for right, answer in answers.items() if answer is None),
        Counter(answers.values())[True],
    )


def read_scene(api: KubeApi, settings: KubeSettings, options: KubeOptions) -> Scene:
    """The Service, its pods, the nodes; PlanError if it does not exist or its namespace is not allowed."""
    if not settings.namespace or not settings.service:
        raise PlanError("no Service: use --namespace and --service, or set both in the experiment's `kube:` section")
    if settings.namespace not in options.namespaces:
        allowed = ", ".join(options.namespaces) or "none"
        raise PlanError(f"namespace {settings.namespace} is not allowed; allowed by --namespace: {allowed}")
    service = _service(api, settings)
    selector = service["spec"].get("selector") or {}
    manifests = api.list(pod_path(settings.namespace))
    pods = sorted_pods(view for m in manifests if matches(selector, m) and _lives(view := pod_view(m)))
    if not pods:
        raise PlanError(f"Service {settings.namespace}/{settings.service} selects no pods")
    others = [pod_view(m) for m in manifests if not matches(selector, m)]
    for namespace in options.namespaces:
        if namespace != settings.namespace:
            others += map(pod_view, api.list(pod_path(namespace)))
    deployment, replicas = _deployment(api, settings.namespace, pods)
    return Scene(
        api.server, api.context, settings.namespace, settings.service, service_view(service, settings), selector, pods,
        sorted_pods(pod for pod in others if pod.node),
        tuple(node_view(m, settings.node_address) for m in api.list(NODES.path())),
        deployment, replicas,
    )  # fmt: skip


def _lives(pod: PodView) -> bool:
    """Whether the pod has not ended; ended pods stay listed until they are garbage-collected."""
    return pod.evictable or pod.running


def _service(api: KubeApi, settings: KubeSettings) -> Manifest:
    path = SERVICES.path(settings.namespace, settings.service)
    try:
        return api.request("GET", path)
    except NotFound:
        raise PlanError(f"there is no Service {settings.namespace}/{settings.service}") from None


def _deployment(api: KubeApi, namespace: str, pods: tuple[PodView, ...]) -> tuple[str, int | None]:
    """The Deployment that owns the pods' ReplicaSet, with its replicas; ("", None) if there is none, or several."""
    owners = {pod.owner for pod in pods}
    names = {owner.removeprefix("ReplicaSet/").rpartition("-")[0] for owner in owners}
    if len(names) != 1 or not all(owner.startswith("ReplicaSet/") for owner in owners):
        return "", None
    (name,) = names
    try:
        scale = api.get(scale_path(namespace, name))
    except CallError as error:
        if error.status == 403:
            return "", None  # without permission to read it, it cannot be scaled either
        raise
    return (name, (scale.get("spec") or {}).get("replicas") or 0) if scale else ("", None)
