"""The limits of a run: the allow-list of namespaces and the blast radius.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chaos.model import Op, PlannedFault
from chaos.plan import Plan
from chaos.targets.kube.calls import CAN, cannot
from chaos.targets.kube.scene import Scene
from chaos.targets.kube.settings import KubeOptions, KubeSettings
from harness.wording import plural

HITS = ("pod.delete", "pod.evict", "pod.signal", "pod.health")


def complaints(plan: Plan, scene: Scene, settings: KubeSettings, options: KubeOptions) -> list[str]:
    """All reasons why the plan may not be carried out; empty if it may."""
    found = [*_who(scene, options)]
    for step in plan.steps:
        found += [
            f"step {step.number} ({step.fault}): {why}" for why in dict.fromkeys(_step(step, scene, settings, options))
        ]
    return found


def _who(scene: Scene, options: KubeOptions) -> Iterator[str]:
    if scene.namespace not in options.namespaces:
        allowed = ", ".join(options.namespaces) or "none"
        yield f"namespace {scene.namespace} is not allowed; allowed by --namespace: {allowed}"
    if not scene.settled:
        wanted = len(scene.pods) if scene.replicas is None else scene.replicas
        ready = sum(pod.ready and not pod.terminating for pod in scene.pods)
        yield f"the Service is not healthy before the run: {plural(ready, 'pod')} ready, {wanted} desired"


def _step(step: PlannedFault, scene: Scene, settings: KubeSettings, options: KubeOptions) -> Iterator[str]:
    ops = (*step.script.inject, *step.script.heal)
    refused = list(dict.fromkeys(filter(None, (cannot(op, settings, scene) for op in ops))))
    if refused:
        yield "; ".join(refused) + f". A cluster target supports: {', '.join(CAN)}"
        return
    if not settings.exec.kill and _outlives(step):
        yield "killing a pod that goes on under its name needs the command `exec: {kill}` in the `kube:` section"
    if settings.readiness_gate:
        yield from _gates(step, scene, settings)
    yield from _pods(step, scene, options)
    nodes = {op.arguments["node"] for op in ops if op.name == "node.schedulable"}
    if len(nodes) > options.max_nodes:
        yield f"{plural(len(nodes), 'node')} at once; --max-nodes allows {options.max_nodes}"


def _outlives(step: PlannedFault) -> bool:
    """Whether a pod is killed and also disturbed in another way, which deleting the pod cannot stand in for."""
    hits = Counter(op.arguments["pod"] for op in step.script.inject if op.name in HITS)
    killed = {op.arguments["pod"] for op in step.script.inject if op.arguments.get("number") == "SIGKILL"}
    return any(hits[pod] > 1 for pod in killed)


def _gates(step: PlannedFault, scene: Scene, settings: KubeSettings) -> Iterator[str]:
    hit = {op.arguments["pod"] for op in step.script.inject if op.name == "pod.health"}
    without = [pod.name for pod in scene.pods if pod.name in hit and settings.readiness_gate not in pod.gates]
    if without:
        yield f"pod {without[0]} has no readiness gate {settings.readiness_gate}"


def _pods(step: PlannedFault, scene: Scene, options: KubeOptions) -> Iterator[str]:
    """At most the given percentage at once, of the Service's pods and of each namespace's other pods."""
    ours = {pod.name for pod in scene.pods}
    sizes = Counter(pod.namespace for pod in scene.others if pod.evictable)
    hit = {_target(op, scene) for op in step.script.inject if op.name in HITS}
    groups = [(f"Service {scene.namespace}/{scene.service_name}", _ours(hit, ours, scene), len(ours))]
    for namespace in sorted({space for space, name in hit} - {scene.namespace} | set(sizes)):
        others = {(pod.namespace, pod.name) for pod in scene.others if pod.namespace == namespace}
        groups.append((f"other pods of namespace {namespace}", len(hit & others), sizes[namespace]))
    for what, count, of in groups:
        yield from _within(what, count, of, options)
    for op in step.script.inject:
        if op.name == "pods.scale":
            change = abs(op.arguments["replicas"] - len(ours))
            yield from _within(f"Service {scene.namespace}/{scene.service_name}", change, len(ours), options)


def _ours(hit: set[tuple[str, str]], ours: set[str], scene: Scene) -> int:
    return sum(namespace == scene.namespace and name in ours for namespace, name in hit)


def _target(op: Op, scene: Scene) -> tuple[str, str]:
    return op.arguments.get("namespace") or scene.namespace, op.arguments["pod"]


def _within(what: str, count: int, of: int, options: KubeOptions) -> Iterator[str]:
    if count * 100 > options.max_pods_percent * of:
        yield (
            f"{count} of {plural(of, 'pod')} at once ({what}), {100 * count / max(of, 1):.0f} %;"
            f" --max-pods-percent allows {options.max_pods_percent:g}"
        )
