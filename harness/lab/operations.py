"""The operations of a running lab, one method each; `harness lab` and chaos use nothing else.

Names are `NOUN.VERB` on the control socket and `noun_verb` here.  LookupError for an unknown pod or node, ValueError
or OSError if the operation fails.  `harness.lab.answers` describes the answers.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar, get_type_hints

import msgspec

from harness.judge.readback.check_result import CheckResult
from harness.kube.resources import Manifest
from harness.lab.answers import (
    EngineUsage,
    FlowEndpoint,
    FlowQuery,
    Moments,
    NodeStatus,
    Observation,
    PodStatus,
    PortStatus,
    ServiceStatus,
    Status,
)
from harness.lab.control_plane import spares
from harness.lab.control_plane.controllers import node_is_ready
from harness.lab.control_plane.endpointslices import is_ready
from harness.lab.dataplane import conntrack, network
from harness.lab.dataplane.container import Container
from harness.lab.dataplane.engines import Engine
from harness.lab.dataplane.forward import serve_inside
from harness.lab.dataplane.observer import is_ready_endpoint
from harness.lab.dataplane.processes import cpu_seconds, memory_bytes

if TYPE_CHECKING:
    from harness.lab.supervisor import Lab

Thing = TypeVar("Thing")
REFILL_SECONDS = 0.25


class Operations:
    """The operations of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._refills: dict[str, asyncio.Task[None]] = {}

    async def dispatch(self, op: str, arguments: dict[str, msgspec.Raw]) -> object:
        """Execute one request from the control socket."""
        method = getattr(self, op.replace(".", "_"), None)
        if op.startswith("_") or op == "dispatch" or method is None:
            raise LookupError(f"unknown operation {op!r}")
        types = get_type_hints(method)
        decoded = {name: msgspec.json.decode(value, type=types.get(name, object)) for name, value in arguments.items()}
        return await method(**decoded)

    async def status(self) -> Status:
        """The current nodes, engines, pods and Services."""
        lab = self._lab
        well, synced = [
            await asyncio.gather(*(look(engine) for engine in lab.engines.values()))
            for look in (Engine.healthy, Engine.synced)
        ]
        health = dict(zip(lab.engines, zip(well, synced, strict=True), strict=True))
        return Status(
            folder=str(lab.folder),
            recording=str(lab.recording),
            api=lab.faults.live.url,
            mode=lab.options.mode,
            seconds=lab.log.seconds,
            began_monotonic_ns=lab.log.began,
            nodes=[self._node_status(node, health) for node in lab.api.nodes()],
            pods=[self._pod_status(pod) for pod in lab.api.pods()],
            services=[_service_status(service) for service in lab.api.services()],
            replicas=lab.replicas.wanted,
            spares=[len(lab.api.names(resource, spares.NAMESPACE)) for resource in ("services", "endpointslices")],
            faults=sorted(lab.faults.active),
            watches=lab.faults.live.watchers,
            watches_wanted=lab.watches_wanted,
        )

    def _node_status(self, node: Manifest, health: dict[str, tuple[bool, bool]]) -> NodeStatus:
        name = node["metadata"]["name"]
        engine, kubelet = self._lab.engines[name], self._lab.kubelets[name]
        healthy, synced = health[name]
        return NodeStatus(
            name=name,
            address=engine.node.address,
            zone=engine.node.zone,
            ready=node_is_ready(node),
            schedulable=not node["spec"].get("unschedulable", False),
            kubelet=kubelet.alive,
            engine_pid=engine.pid,
            engine_healthy=healthy,
            engine_synced=synced,
            engine_stopped=engine.stopped,
            wired=name not in self._lab.unplugged,
            caller=engine.node.caller,
        )

    def _pod_status(self, pod: Manifest) -> PodStatus:
        name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
        kubelet = self._lab.kubelets.get(node)
        container = kubelet.containers.get(name) if kubelet else None
        return PodStatus(
            name=name,
            node=node,
            address=pod["status"].get("podIP"),
            ready=is_ready(pod),
            terminating="deletionTimestamp" in pod["metadata"],
            running=bool(container and container.running),
            stopped=bool(container and container.stopped),
            health=container.health if container else None,
            pid=container.pid if container else None,
            restarts=container.restarts if container else 0,
        )

    async def stop(self) -> None:
        """End the lab."""
        self._lab.ending.set()

    async def observations(self, since: float = 0.0) -> list[Observation]:
        """When each node's kernel caught up with each change of the slices since the given time."""
        return [o for o in self._lab.observations if o.asked >= since]

    async def open_questions(self) -> int:
        """The number of effects of changes that nodes' kernels do not show yet."""
        return sum(observer.open_questions for observer in self._lab.observers.values())

    async def forward_open(self, namespace: str, port: int) -> str:
        """A Unix socket forwarded to the port on the namespace's loopback address: see `forward`."""
        path = self._lab.folder / f"forward-{namespace}-{port}.sock"
        path.unlink(missing_ok=True)
        await serve_inside(path, namespace, port)
        return str(path)

    async def flows_lookup(self, flows: list[FlowQuery]) -> list[FlowEndpoint | None]:
        """The node and endpoint of each flow, None if no node knows it: see `flows`."""
        pods = {pod["status"].get("podIP"): pod["metadata"]["name"] for pod in self._lab.api.pods()}
        return [self._lab.lookup.find(flow, pods) for flow in flows]

    async def engine_usage(self) -> dict[str, EngineUsage]:
        """CPU time and memory of each node's running engine."""
        running = {name: pid for name, engine in self._lab.engines.items() if (pid := engine.pid) is not None}
        return {name: EngineUsage(pid, cpu_seconds(pid), memory_bytes(pid)) for name, pid in running.items()}

    async def transactions(self) -> dict[str, Moments | None]:
        """When each transaction on each node's rules took effect, by family; None if they are not announced."""
        return {name: observer.moments for name, observer in self._lab.observers.items()}

    async def rewrites(self) -> dict[str, list[float] | None]:
        """When a whole table of each node's rules was replaced or deleted; None if that cannot be detected."""
        return {name: observer.rewrites for name, observer in self._lab.observers.items()}

    async def kernels_judge(self, nodes: list[str] | None = None) -> dict[str, CheckResult]:
        """Compare the kernels of the given nodes, by default of all, with the API's objects."""
        return dict(await asyncio.gather(*(self._check_kernel(name) for name in nodes or self._lab.observers)))

    async def _check_kernel(self, node: str) -> tuple[str, CheckResult]:
        self._node(self._lab.observers, node)
        found = await asyncio.to_thread(lambda: self._lab.observers[node].check_kernel(self._lab.oracle(node)))
        differences = found.differences + await self._check_health_ports(node)
        return node, msgspec.structs.replace(found, differences=differences)

    async def _check_health_ports(self, node: str) -> list[str]:
        """Wrong answers of the node's health check node ports about local endpoints."""
        engine = self._lab.engines[node]
        if not engine.has_metrics or not engine.running:
            return []
        checks = self._lab.api.health_checks()
        answers = await asyncio.gather(*map(engine.local_endpoints, checks))
        here = [sum(end.get("nodeName") == node and is_ready_endpoint(end) for end in ends) for ends in checks.values()]
        return [
            f"health check port {port}: {status or 'nothing'} and {count} endpoints, where {ready} are ready"
            for port, (status, count), ready in zip(checks, answers, here, strict=True)
            if (status, count) != (200 if ready else 503, ready)
        ]

    async def fault_note(self, what: dict[str, object]) -> float:
        """Write a FAULT event; returns its time."""
        return self._lab.log.mark("FAULT", "nodes" if what.get("nodes") else "pods", what)

    async def pod_signal(self, pod: str, number: str) -> None:
        """Send a signal such as SIGKILL or SIGSTOP to a pod's process."""
        self._container(pod).send(signal.Signals[number])

    async def pod_start(self, pod: str) -> None:
        """Start the process of a pod whose process has ended."""
        container = self._container(pod)
        await self._lab.kubelets[container.node].start(container)

    async def pod_health(self, pod: str, word: str) -> None:
        """Set the behaviour of the pod's /healthz: ok, fail or hang."""
        self._container(pod).set_health(word)

    async def pod_delete(self, pod: str, grace_seconds: int) -> None:
        """Delete the pod in the API; it is replaced."""
        self._container(pod)
        await self._lab.api.remove("pods", pod, grace_seconds)

    async def spares_set(self, services: int, slices: int, host: int = 1) -> None:
        """Set the number of unused Services, how many have their slice, and its endpoint.

        Delayed while the API is down; see `spares`.
        """
        if not 0 <= slices <= services <= spares.LARGEST:
            raise ValueError(f"{services} Services and {slices} slices; at most {spares.LARGEST}, slices no more")
        self._writing = asyncio.create_task(self._spares(services, slices, host))

    async def _spares(self, services: int, slices: int, host: int) -> None:
        api = self._lab.api
        for resource, count, make in (
            ("services", services, spares.service),
            ("endpointslices", slices, partial(spares.slice_of, host=host)),
        ):
            wanted = {spares.name_of(number): number for number in range(1, count + 1)}
            there = api.names(resource, spares.NAMESPACE)
            for name in sorted(there - wanted.keys()):
                await api.remove(resource, name, namespace=spares.NAMESPACE)
            for number in wanted.values():
                await api.write(resource, make(number))

    async def pods_scale(self, replicas: int) -> None:
        """Set the number of pods."""
        if replicas < 0:
            raise ValueError(f"{replicas} pods; 0 or more are needed")
        self._lab.replicas.wanted = replicas
        self._lab.wake()

    async def node_kubelet(self, node: str, running: bool) -> None:
        """Stop the node's kubelet, or start it again."""
        kubelet = self._node(self._lab.kubelets, node)
        kubelet.resume() if running else kubelet.stop()

    async def node_wire(self, node: str, up: bool) -> None:
        """Connect the node to the network, or disconnect it."""
        self._node(self._lab.kubelets, node)
        network.set_wire(node, up)
        (self._lab.unplugged.discard if up else self._lab.unplugged.add)(node)

    async def node_schedulable(self, node: str, schedulable: bool) -> None:
        """Cordon the node, or undo it."""
        self._node(self._lab.kubelets, node)

        def change(manifest: Manifest) -> Manifest:
            spec = {key: value for key, value in manifest["spec"].items() if key != "unschedulable"}
            return {**manifest, "spec": spec if schedulable else {**spec, "unschedulable": True}}

        await self._lab.api.update("nodes", node, change)

    async def node_fill_conntrack(self, node: str, free: int) -> None:
        """Keep the node's conntrack table so full that only `free` entries fit."""
        self._node(self._lab.kubelets, node)
        added = await asyncio.to_thread(conntrack.fill, node, free)
        self._refills[node] = asyncio.create_task(self._refill(node, free, added))

    async def _refill(self, node: str, free: int, added: int) -> None:
        """Replace entries that expire, until the table is emptied or filled again."""
        while self._refills.get(node) is asyncio.current_task():
            await asyncio.sleep(REFILL_SECONDS)
            try:
                added += await asyncio.to_thread(conntrack.fill, node, free, added)
            except OSError:
                return

    async def node_empty_conntrack(self, node: str) -> None:
        """Remove the entries added by `node.fill_conntrack`."""
        self._node(self._lab.kubelets, node)
        if refill := self._refills.pop(node, None):
            await refill
        await asyncio.to_thread(conntrack.empty, node)

    async def engine_signal(self, node: str, number: str) -> None:
        """Send a signal to the node's engine."""
        self._node(self._lab.engines, node).send(signal.Signals[number])

    async def engine_start(self, node: str) -> None:
        """Start the node's engine unless it runs."""
        await self._node(self._lab.engines, node).start()

    async def api_fault(self, kind: str, seconds: float = 1.0, every_seconds: float = 1.0) -> None:
        """Stop or slow down the API, or make it drop watches or answer 410: see `ApiServer`."""
        await self._lab.faults.set(kind, seconds, every_seconds)

    async def api_heal(self) -> None:
        """Heal the API."""
        await self._lab.faults.clear()

    def _container(self, pod: str) -> Container:
        for kubelet in self._lab.kubelets.values():
            if pod in kubelet.containers:
                return kubelet.containers[pod]
        raise LookupError(f"no pod {pod!r} runs in the lab")

    @staticmethod
    def _node(things: Mapping[str, Thing], node: str) -> Thing:
        if node not in things:
            raise LookupError(f"no node {node!r}; there are: {', '.join(things)}")
        return things[node]


def _service_status(service: Manifest) -> ServiceStatus:
    spec = service["spec"]
    ingress = (service["status"].get("loadBalancer") or {}).get("ingress") or []
    return ServiceStatus(
        name=service["metadata"]["name"],
        cluster_ip=spec.get("clusterIP", ""),
        balancer=ingress[0].get("ip") or ingress[0].get("hostname") if ingress else None,
        ports={
            port.get("name", ""): PortStatus(port["port"], port.get("nodePort")) for port in spec.get("ports") or ()
        },
    )
