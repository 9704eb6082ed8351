"""A node's kubelet: runs the pods assigned to it by the API, and reports their status.

Level-triggered: `wake` after any change; one pass compares the desired state with what runs.
"""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from pathlib import Path

from harness.kube.resources import Manifest
from harness.lab.control_plane.endpointslices import is_ready
from harness.lab.control_plane.objects import LabObjects
from harness.lab.control_plane.probes import ProbeError
from harness.lab.dataplane.container import Container
from harness.lab.topology import LabNode, LabOptions

FIRST_POD_ADDRESS = 10
MAX_PODS = 110
"""A kubelet's default maxPods; the node's range of addresses holds more."""


class Kubelet:
    """`containers` are those on the node, by pod name."""

    def __init__(self, node: LabNode, options: LabOptions, api: LabObjects, folder: Path) -> None:
        self.node = node
        self.containers: dict[str, Container] = {}
        self.alive = True
        self._options, self._api, self._folder = options, api, folder
        self._woken, self._started, self._living = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._living.set()
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Trigger a comparison with the desired state."""
        self._woken.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self.alive:
                await self._pass()

    def stop(self) -> None:
        """Stop the kubelet: no probes and no reports, but processes keep running."""
        self.alive = False
        self._living.clear()
        for container in self.containers.values():
            container.pause_probing()

    def resume(self) -> None:
        """Start the kubelet again; it reports everything from scratch."""
        self.alive = True
        self._living.set()
        for container in self.containers.values():
            if not container.seen_ended:
                container.resume_probing()
        self.wake()

    async def _pass(self) -> None:
        wanted = {p["metadata"]["name"]: p for p in self._api.pods() if p["spec"]["nodeName"] == self.node.name}
        for name, pod in wanted.items():
            if "deletionTimestamp" in pod["metadata"]:
                self._end(name, pod)
            elif name not in self.containers and pod["status"].get("phase") != "Failed":
                await self._create(name, pod)
        for name in self.containers.keys() - wanted.keys():
            self._end(name, None)
        await self.report()

    async def report(self) -> None:
        """Write the status of every pod whose status differs from the API's."""
        for pod in self._api.pods():
            container = self.containers.get(pod["metadata"]["name"])
            if container and _status_differs(pod, container):
                await self._api.update("pods", container.name, partial(self._with_status, container))

    def _with_status(self, container: Container, pod: Manifest) -> Manifest:
        return with_status(pod, container, self.node, self._api.now())

    async def _create(self, name: str, pod: Manifest) -> None:
        if len(self.containers) >= MAX_PODS:
            used = f"requested: 1, used: {len(self.containers)}, capacity: {MAX_PODS}"
            why = f"Node didn't have enough resource: pods, {used}"
            return await self._api.update("pods", name, partial(_failed, "OutOfpods", why))
        taken = {container.address for container in self.containers.values()}
        addresses = (self.node.pod_address(number) for number in itertools.count(FIRST_POD_ADDRESS))
        address = next(a for a in addresses if a not in taken)
        try:
            container = Container(
                pod, self.node, address, self._folder / name, self._options.drain_seconds, lambda _: self.wake()
            )
        except ProbeError as error:
            return await self._api.update("pods", name, partial(_failed, "InvalidProbe", str(error)))
        self.containers[name] = container
        await container.create()
        if self._options.exit_notice_seconds is not None:
            notice = self._options.exit_notice_seconds
            self._watching[name] = asyncio.create_task(self._watch_process(container, notice))

    async def start(self, container: Container) -> None:
        """Start a pod's process unless it is running, and trigger a comparison."""
        await container.start()
        self._started.set()
        self.wake()

    async def _watch_process(self, container: Container, notice_seconds: float) -> None:
        """Detect when the process ends, and restart it if configured; paused while the kubelet is stopped."""
        while True:
            await container.wait()
            await asyncio.sleep(notice_seconds)
            await self._living.wait()
            if container.name in self._ending:
                return
            if not container.running:
                container.ended()
                self.wake()
                await self._start_again(container)

    async def _start_again(self, container: Container) -> None:
        if self._options.restart_seconds is not None:
            await asyncio.sleep(self._options.restart_seconds)
            await self._living.wait()
            if container.name not in self._ending:
                await self.start(container)
        while not container.running and container.name not in self._ending:
            self._started.clear()
            await self._started.wait()

    def _end(self, name: str, pod: Manifest | None) -> None:
        if name in self._ending:
            return
        grace = pod["metadata"].get("deletionGracePeriodSeconds", 0) if pod else 0
        self._ending[name] = asyncio.create_task(self._terminate(name, grace))

    async def _terminate(self, name: str, grace: float) -> None:
        container = self.containers.get(name)
        if container:
            await container.end(grace)
            container.remove()
            del self.containers[name]
        await self._api.remove("pods", name)
        if watching := self._watching.pop(name, None):
            watching.cancel()
        del self._ending[name]


def _failed(reason: str, why: str, pod: Manifest) -> Manifest:
    return {**pod, "status": {"phase": "Failed", "reason": reason, "message": why}}


def _status_differs(pod: Manifest, container: Container) -> bool:
    status = pod["status"]
    restarts = (status.get("containerStatuses") or [{}])[0].get("restartCount", 0)
    return (
        status.get("podIP") != container.address
        or is_ready(pod) != container.ready
        or restarts != container.restarts
        or status.get("phase") != "Running"
    )


def with_status(pod: Manifest, container: Container, node: LabNode, now: str) -> Manifest:
    """The pod with the status known to its kubelet; `now` is RFC 3339."""
    ready = container.ready
    word = "True" if ready else "False"
    conditions = [{"type": kind, "status": word, "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    state = {"running": {}} if container.running else {"terminated": {"exitCode": container.exit_code}}
    status = {
        "phase": "Running",
        "hostIP": node.address,
        "podIP": container.address,
        "podIPs": [{"ip": container.address}],
        "conditions": [*conditions, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {
                "name": pod["spec"]["containers"][0]["name"],
                "image": pod["spec"]["containers"][0]["image"],
                "imageID": "",
                "ready": ready,
                "restartCount": container.restarts,
                "state": state,
            }
        ],
    }
    return {**pod, "status": status}
