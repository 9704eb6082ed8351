"""A node's kubelet: makes the pods that the API names for it real, and tells the API how they are.

Level-triggered: `wake` after any change; one pass compares what the API wants with what runs.
"""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from pathlib import Path
from typing import Any

from harness.lab.api import Api
from harness.lab.container import Container
from harness.lab.endpointslices import is_ready
from harness.lab.probes import ProbeError
from harness.lab.topology import LabNode, LabOptions

FIRST_POD_ADDRESS = 10


class Kubelet:
    """`containers` by pod name are what runs on the node."""

    def __init__(self, node: LabNode, options: LabOptions, api: Api, folder: Path) -> None:
        self.node = node
        self.containers: dict[str, Container] = {}
        self.alive = True
        self._options, self._api, self._folder = options, api, folder
        self._woken, self._started, self._living = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._living.set()
        self._ending: dict[str, asyncio.Task] = {}
        self._watching: dict[str, asyncio.Task] = {}

    def wake(self) -> None:
        """Something may differ from what runs."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self.alive:
                await self._pass()

    def stop(self) -> None:
        """The kubelet is gone: no probe, no report; processes go on."""
        self.alive = False
        self._living.clear()
        for container in self.containers.values():
            container.pause_probing()

    def resume(self) -> None:
        """It is back and reports everything anew."""
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

    def _with_status(self, container: Container, pod: dict[str, Any]) -> dict[str, Any]:
        return with_status(pod, container, self.node, self._api.now())

    async def _create(self, name: str, pod: dict[str, Any]) -> None:
        taken = {container.address for container in self.containers.values()}
        addresses = (self.node.pod_address(number) for number in itertools.count(FIRST_POD_ADDRESS))
        address = next(a for a in addresses if a not in taken)
        try:
            container = Container(
                pod, self.node, address, self._folder / name, self._options.drain_seconds, lambda _: self.wake()
            )
        except ProbeError as error:
            return await self._api.update("pods", name, partial(_failed, str(error)))
        self.containers[name] = container
        await container.create()
        if self._options.exit_notice_seconds is not None:
            self._watching[name] = asyncio.create_task(self._watch_process(container))

    async def start(self, container: Container) -> None:
        """Start its process unless it runs, and look again."""
        await container.start()
        self._started.set()
        self.wake()

    async def _watch_process(self, container: Container) -> None:
        """See its processes end, and start new ones where the options say so; nothing while the kubelet is gone."""
        while True:
            await container.process.wait()
            await asyncio.sleep(self._options.exit_notice_seconds)
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

    def _end(self, name: str, pod: dict[str, Any] | None) -> None:
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


def _failed(why: str, pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "status": {"phase": "Failed", "reason": "InvalidProbe", "message": why}}


def _status_differs(pod: dict[str, Any], container: Container) -> bool:
    status = pod["status"]
    restarts = (status.get("containerStatuses") or [{}])[0].get("restartCount", 0)
    return (
        status.get("podIP") != container.address
        or is_ready(pod) != container.ready
        or restarts != container.restarts
        or status.get("phase") != "Running"
    )


def with_status(pod: dict[str, Any], container: Container, node: LabNode, now: str) -> dict[str, Any]:
    """The pod with what its kubelet knows of it; `now` is RFC 3339."""
    ready = container.ready
    word = "True" if ready else "False"
    conditions = [{"type": kind, "status": word, "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    state = {"running": {}} if container.running else {"terminated": {"exitCode": container.process.returncode}}
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
