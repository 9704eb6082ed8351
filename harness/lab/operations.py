"""What can be asked of a running lab, one method an operation; `harness lab` and chaos use nothing else.

Names are `NOUN.VERB` on the control socket and `noun_verb` here.  Each returns JSON; LookupError for an unknown
pod or node, ValueError or OSError where it cannot be done.  Times are seconds on the event log's clock.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from harness.lab import conntrack, network
from harness.lab.controllers import node_is_ready
from harness.lab.endpointslices import is_ready
from harness.lab.forward import serve_inside
from harness.lab.processes import cpu_seconds


class Operations:
    """The operations of one lab."""

    def __init__(self, lab) -> None:
        self._lab = lab

    async def dispatch(self, op: str, arguments: dict[str, Any]) -> Any:
        """Carry out one request of the control socket."""
        method = getattr(self, op.replace(".", "_"), None)
        if op.startswith("_") or op == "dispatch" or method is None:
            raise LookupError(f"unknown operation {op!r}")
        return await method(**arguments)

    async def status(self) -> dict[str, Any]:
        """Nodes, engines, pods and Services as they are."""
        lab = self._lab
        engines = await asyncio.gather(*(engine.healthy() for engine in lab.engines.values()))
        health = dict(zip(lab.engines, engines, strict=True))
        pods = [self._pod_status(pod) for pod in lab.api.pods()]
        return {
            "folder": str(lab.folder),
            "recording": str(lab.recording),
            "api": lab.faults.live.url,
            "mode": lab.options.mode,
            "seconds": lab.log.seconds,
            "began_monotonic_ns": lab.log.began,
            "nodes": [self._node_status(node, health) for node in lab.api.nodes()],
            "pods": pods,
            "services": [self._service_status(service) for service in lab.api.services()],
            "replicas": lab.replicas.wanted,
            "faults": sorted(lab.faults.active),
            "watches": lab.faults.live.watchers,
            "watches_wanted": lab.watches_wanted,
        }

    def _node_status(self, node: dict[str, Any], health: dict[str, bool]) -> dict[str, Any]:
        name = node["metadata"]["name"]
        engine, kubelet = self._lab.engines[name], self._lab.kubelets[name]
        return {
            "name": name,
            "address": engine.node.address,
            "zone": engine.node.zone,
            "ready": node_is_ready(node),
            "schedulable": not node["spec"].get("unschedulable", False),
            "kubelet": kubelet.alive,
            "engine_pid": engine.process.pid if engine.running else None,
            "engine_healthy": health[name],
            "engine_stopped": engine.stopped,
            "wired": name not in self._lab.unplugged,
            "caller": engine.node.caller,
        }

    def _pod_status(self, pod: dict[str, Any]) -> dict[str, Any]:
        name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
        kubelet = self._lab.kubelets.get(node)
        container = kubelet.containers.get(name) if kubelet else None
        return {
            "name": name,
            "node": node,
            "address": pod["status"].get("podIP"),
            "ready": is_ready(pod),
            "terminating": "deletionTimestamp" in pod["metadata"],
            "running": bool(container and container.running),
            "stopped": bool(container and container.stopped),
            "health": container.health if container else None,
            "pid": container.process.pid if container and container.running else None,
            "restarts": container.restarts if container else 0,
        }

    def _service_status(self, service: dict[str, Any]) -> dict[str, Any]:
        spec = service["spec"]
        ingress = (service["status"].get("loadBalancer") or {}).get("ingress") or []
        return {
            "name": service["metadata"]["name"],
            "cluster_ip": spec["clusterIP"],
            "balancer": ingress[0]["ip"] if ingress else None,
            "ports": {port["name"]: {"port": port["port"], "node_port": port["nodePort"]} for port in spec["ports"]},
        }

    async def stop(self) -> None:
        """End the lab."""
        self._lab.ending.set()

    async def observations(self, since: float = 0.0) -> list[dict[str, Any]]:
        """When each node's kernel followed each change of the slices asked for since then."""
        return [o for o in self._lab.observations if o["asked"] >= since]

    async def open_questions(self) -> int:
        """How many kernels have not yet followed a change."""
        return sum(witness.open_questions for witness in self._lab.witnesses.values())

    async def forward_open(self, namespace: str, port: int) -> str:
        """A Unix socket that leads to the port on the namespace's loopback: see `forward`."""
        path = self._lab.folder / f"forward-{namespace}-{port}.sock"
        path.unlink(missing_ok=True)
        await serve_inside(path, namespace, port)
        return str(path)

    async def flows_lookup(self, flows: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """Which node and endpoint each flow went to, None where no node knows: see `flows`."""
        pods = {pod["status"].get("podIP"): pod["metadata"]["name"] for pod in self._lab.api.pods()}
        return [self._lab.lookup.find(flow, pods) for flow in flows]

    async def engine_cpu(self) -> dict[str, float]:
        """CPU seconds that each node's running engine has used."""
        running = {name: engine for name, engine in self._lab.engines.items() if engine.running}
        return {name: cpu_seconds(engine.process.pid) for name, engine in running.items()}

    async def fault_note(self, what: dict[str, Any]) -> float:
        """Write a FAULT event; the time of it."""
        return self._lab.log.mark("FAULT", "nodes" if what.get("nodes") else "pods", what)

    async def pod_signal(self, pod: str, number: str) -> None:
        """Send a signal such as SIGKILL or SIGSTOP to a pod's process."""
        self._container(pod).send(signal.Signals[number])

    async def pod_start(self, pod: str) -> None:
        """Start the process of a pod whose process has ended."""
        container = self._container(pod)
        await self._lab.kubelets[container.node].start(container)

    async def pod_health(self, pod: str, word: str) -> None:
        """What the pod's /healthz does: ok, fail or hang."""
        self._container(pod).set_health(word)

    async def pod_delete(self, pod: str, grace_seconds: int) -> None:
        """Delete the pod in the API; a replacement is made."""
        self._container(pod)
        await self._lab.api.remove("pods", pod, grace_seconds)

    async def pods_scale(self, replicas: int) -> None:
        """How many pods there are to be."""
        if replicas < 0:
            raise ValueError(f"{replicas} pods; 0 or more are needed")
        self._lab.replicas.wanted = replicas
        self._lab.wake()

    async def node_kubelet(self, node: str, running: bool) -> None:
        """End the node's kubelet, or bring it back."""
        kubelet = self._node(self._lab.kubelets, node)
        kubelet.resume() if running else kubelet.stop()

    async def node_wire(self, node: str, up: bool) -> None:
        """Plug the node into the network, or out of it."""
        self._node(self._lab.kubelets, node)
        network.set_wire(node, up)
        (self._lab.unplugged.discard if up else self._lab.unplugged.add)(node)

    async def node_schedulable(self, node: str, schedulable: bool) -> None:
        """Cordon the node, or undo it."""
        self._node(self._lab.kubelets, node)

        def change(manifest: dict[str, Any]) -> dict[str, Any]:
            spec = {key: value for key, value in manifest["spec"].items() if key != "unschedulable"}
            return {**manifest, "spec": spec if schedulable else {**spec, "unschedulable": True}}

        await self._lab.api.update("nodes", node, change)

    async def node_fill_conntrack(self, node: str, free: int) -> int:
        """Fill the node's connection tracking table until only `free` entries fit; how many were added."""
        self._node(self._lab.kubelets, node)
        return await asyncio.to_thread(conntrack.fill, node, free)

    async def node_empty_conntrack(self, node: str) -> None:
        """Take away what `node.fill_conntrack` added."""
        self._node(self._lab.kubelets, node)
        await asyncio.to_thread(conntrack.empty, node)

    async def engine_signal(self, node: str, number: str) -> None:
        """Send a signal to the node's engine."""
        self._node(self._lab.engines, node).send(signal.Signals[number])

    async def engine_start(self, node: str) -> None:
        """Start the node's engine unless it runs."""
        await self._node(self._lab.engines, node).start()

    async def api_fault(self, kind: str, **how: Any) -> None:
        """Make the API down, slow, drop its watches or answer 410: see `api_faults`."""
        await self._lab.faults.set(kind, **how)

    async def api_heal(self) -> None:
        """The API is well again."""
        await self._lab.faults.clear()

    def _container(self, pod: str):
        for kubelet in self._lab.kubelets.values():
            if pod in kubelet.containers:
                return kubelet.containers[pod]
        raise LookupError(f"no pod {pod!r} runs in the lab")

    @staticmethod
    def _node(things: dict[str, Any], node: str):
        if node not in things:
            raise LookupError(f"no node {node!r}; there are: {', '.join(things)}")
        return things[node]
