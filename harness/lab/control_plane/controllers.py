"""The control plane's other loops: replicas and scheduling, EndpointSlices, lost nodes.

Each is level-triggered like a kubelet; their decisions are separate pure functions (`endpointslices`, `placed`).
"""

from __future__ import annotations

import asyncio
from functools import partial

from harness.kube.resources import ZONE, Manifest
from harness.lab.control_plane.endpointslices import orphans, same, slices_of
from harness.lab.control_plane.kubelet import Kubelet
from harness.lab.control_plane.objects import LabObjects
from harness.lab.topology import APP, LabOptions, pod_manifest

LEASE_SECONDS = 0.25
"""Interval at which kubelets renew their leases and the node controller checks them."""


def placed(pods: list[Manifest], nodes: list[Manifest]) -> str | None:
    """The ready, schedulable node with the fewest pods, or None."""
    counts = {
        node["metadata"]["name"]: 0 for node in nodes if not node["spec"].get("unschedulable") and node_is_ready(node)
    }
    for pod in pods:
        if pod["spec"]["nodeName"] in counts:
            counts[pod["spec"]["nodeName"]] += 1
    return min(counts, key=lambda name: (counts[name], name), default=None)


def node_is_ready(node: Manifest) -> bool:
    """Whether the node's condition Ready is true."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions") or ())


class Replicas:
    """Keeps `wanted` pods that are not terminating."""

    def __init__(self, options: LabOptions, api: LabObjects) -> None:
        self.wanted = options.pods
        self._options, self._api = options, api
        self._made = 0

    async def step(self) -> None:
        """Create missing pods, delete surplus ones (the youngest first)."""
        pods = [p for p in self._api.pods() if "deletionTimestamp" not in p["metadata"] and _number(p) is not None]
        while len(pods) < self.wanted:
            node = placed(pods, self._api.nodes())
            if node is None:
                return
            self._made += 1
            pod = pod_manifest(f"{APP}-{self._made}", node, self._options)
            await self._api.write("pods", pod)
            pods.append(pod)
        by_age = sorted(pods, key=lambda pod: _number(pod) or 0)
        for pod in by_age[self.wanted :]:
            await self._api.remove("pods", pod["metadata"]["name"], self._options.grace_period_seconds)


def _number(pod: Manifest) -> int | None:
    """The replica number of a pod; None for pods created by others."""
    app, _, number = pod["metadata"]["name"].rpartition("-")
    return int(number) if app == APP and number.isdecimal() else None


class Slices:
    """Keeps the slices of every Service that selects pods."""

    def __init__(self, api: LabObjects) -> None:
        self._api = api

    async def step(self) -> None:
        """Write slices that differ, delete those no longer needed, and those of Services that are gone."""
        zones = {n["metadata"]["name"]: zone for n in self._api.nodes() if (zone := n["metadata"]["labels"].get(ZONE))}
        pods, services = self._api.pods(), self._api.services()
        for name in orphans(self._api.all_slices(), {service["metadata"]["name"] for service in services}):
            await self._api.remove("endpointslices", name)
        for service in services:
            if not service["spec"].get("selector"):
                continue
            wanted = slices_of(service, pods, zones, self._api.now())
            existing = {s["metadata"]["name"]: s for s in self._api.slices(service["metadata"]["name"])}
            for piece in wanted:
                old = existing.pop(piece["metadata"]["name"], None)
                if old is None or not same(old, piece):
                    await self._api.write("endpointslices", piece)
            for name in existing:
                await self._api.remove("endpointslices", name)


class Nodes:
    """Leases; if one is not renewed, the node and its pods become not ready."""

    def __init__(self, options: LabOptions, api: LabObjects, kubelets: dict[str, Kubelet]) -> None:
        self._grace, self._api, self._kubelets = options.node_grace_seconds, api, kubelets
        self._seen = dict.fromkeys(kubelets, 0.0)

    async def run(self) -> None:
        """Run until cancelled."""
        clock = asyncio.get_running_loop().time
        self._seen = dict.fromkeys(self._kubelets, clock())
        while True:
            for name, kubelet in self._kubelets.items():
                if kubelet.alive:
                    self._seen[name] = clock()
            for node in self._api.nodes():
                await self._judge(node, clock() - self._seen[node["metadata"]["name"]])
            await asyncio.sleep(LEASE_SECONDS)

    async def _judge(self, node: Manifest, silence: float) -> None:
        name, lost = node["metadata"]["name"], silence > self._grace
        if node_is_ready(node) is not lost:
            return
        await self._api.update("nodes", name, partial(self._with_ready, "Unknown" if lost else "True"))
        if not lost:
            self._kubelets[name].wake()
            return
        for pod in self._api.pods():
            if pod["spec"]["nodeName"] == name:
                await self._api.update("pods", pod["metadata"]["name"], partial(self._with_ready, "False"))

    def _with_ready(self, status: str, manifest: Manifest) -> Manifest:
        condition = {"type": "Ready", "status": status, "lastTransitionTime": self._api.now()}
        return {**manifest, "status": {**manifest.get("status", {}), "conditions": [condition]}}
