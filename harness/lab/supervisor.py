"""The lab's first process: sets everything up, runs the control plane, and shuts down.

    python -m harness.lab.supervisor FOLDER READY_FD [LIFELINE_FD]

Run by `launch` as process 1 of the lab's namespaces.  It reports its progress as lines on READY_FD, the last one
`ready`; it ends at an operation `stop`, at SIGTERM, or when the other end of LIFELINE_FD closes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from harness.apiserver.admission import Admission
from harness.apiserver.journal import Journal
from harness.apiserver.kubeconfig import write_kubeconfig
from harness.apiserver.live import LiveStore
from harness.apiserver.store import StoreChange
from harness.judge.oracle import Oracle, Settings
from harness.kube.resources import PROXIED, SERVICE_NAME
from harness.lab import control
from harness.lab.answers import Observation
from harness.lab.control_plane import spares
from harness.lab.control_plane.api_server import ApiServer
from harness.lab.control_plane.background import add_background
from harness.lab.control_plane.controllers import Nodes, Replicas, Slices
from harness.lab.control_plane.kubelet import Kubelet
from harness.lab.control_plane.objects import LabObjects
from harness.lab.dataplane import network
from harness.lab.dataplane.balancer import Balancer
from harness.lab.dataplane.engines import Engine
from harness.lab.dataplane.flows import Lookup
from harness.lab.dataplane.observer import KernelObserver, questions, used_addresses
from harness.lab.launch import OPTIONS, RECORDING
from harness.lab.operations import Operations
from harness.lab.topology import (
    POD_NETWORK,
    SERVICE_NETWORKS,
    LabOptions,
    node_manifest,
    nodes_of,
    service_manifests,
)
from harness.log.events import Event
from harness.modes import mode_of
from harness.places import vm
from harness.places.place import Place

READY_SECONDS = 90.0
CLUSTER = {"name": "lab", "clusterCIDR": POD_NETWORK, "serviceCIDRs": list(SERVICE_NETWORKS)}


class Lab:
    """All components of the lab; created inside the namespaces."""

    def __init__(self, options: LabOptions, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.recording = folder / RECORDING
        self.nodes = nodes_of(options)
        self.api = LabObjects(LiveStore(admission=Admission(SERVICE_NETWORKS)), [node.name for node in self.nodes])
        self.faults = ApiServer(self.api)
        kubeconfig = folder / "kubeconfig"
        self.kubelets = {n.name: Kubelet(n, options, self.api, folder / "pods") for n in self.nodes}
        self.engines = {n.name: Engine(n, options, folder / n.name, kubeconfig) for n in self.nodes}
        self._balancer = Balancer(self.engines)
        self.replicas, self._slices = Replicas(options, self.api), Slices(self.api)
        self.unplugged: set[str] = set()
        self.watches_wanted = 0
        """The number of watches when all engines follow the API."""
        self._stack = ExitStack()
        self.observations: list[Observation] = []
        self.ending = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, report: Callable[[str], None]) -> None:
        """Bring everything up; `report(line)` receives progress. RuntimeError if it is not ready in time."""
        _require_kernel(self.options.mode)
        report("network")
        network.build(self.nodes)
        translates = mode_of(self.options.mode).translates
        self.lookup = Lookup(n.name for n in self.nodes if translates)
        report("api")
        add_background(self.api.store, self.options.background_services, self.options.seed)
        for manifest in [node_manifest(n) for n in self.nodes]:
            await self.api.write("nodes", manifest)
        for manifest in service_manifests() + [spares.service(n + 1) for n in range(spares.USUAL)]:
            await self.api.write("services", manifest)
        for number in range(spares.USUAL):
            await self.api.write("endpointslices", spares.slice_of(number + 1))
        self.log = self._stack.enter_context(Journal(self.recording, self.api.store, CLUSTER))
        self.observers = {
            n.name: KernelObserver(
                n.name,
                n.address,
                self.options.mode,
                self.observations.append,
                lambda: self.log.seconds,
                bool(self.options.external),
            )
            for n in self.nodes
        }
        self._loop = asyncio.get_running_loop()
        self.api.store.subscribe(self._on_change)
        self._stack.enter_context(self.faults.live)
        write_kubeconfig(self.folder / "kubeconfig", self.faults.live.kubeconfig())
        await self._start_loops()
        await self._get_ready(report)

    async def _start_loops(self) -> None:
        loops = [kubelet.run() for kubelet in self.kubelets.values()]
        loops += [
            self._control_loop(),
            Nodes(self.options, self.api, self.kubelets).run(),
            self._balancer.run(),
        ]
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        for task in self._tasks:
            task.add_done_callback(self._loop_ended)
        for engine in self.engines.values():
            await engine.start()
        self.wake()

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        """End the lab with a message if a loop fails: a partial control plane would be misleading."""
        if not task.cancelled() and task.exception():
            print(f"the lab ends: {task.exception()!r}", file=sys.stderr, flush=True)
            task.print_stack()
            self.ending.set()

    async def _control_loop(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.replicas.step()
            await self._slices.step()

    async def _get_ready(self, report: Callable[[str], None]) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS * vm.patience()
        reported = ""
        while missing := await self._missing():
            if missing != reported:
                report(missing)
                reported = missing
            if self.ending.is_set() or asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"the lab did not get ready: {missing}")
            await asyncio.sleep(0.05)
        for observer in self.observers.values():
            observer.start()
            for pod in self.api.pods():
                observer.ask(pod["status"]["podIP"], wanted=True)
        while any(observer.open_questions for observer in self.observers.values()):
            if asyncio.get_running_loop().time() > deadline:
                raise RuntimeError("the lab did not get ready: the kernels do not hold the pods")
            await asyncio.sleep(0.05)
        self.observations.clear()
        self.watches_wanted = self.faults.live.watchers

    async def _missing(self) -> str:
        """The components that the lab is still waiting for; empty if none."""
        pods = self.api.pods()
        ready = sum(c.ready for kubelet in self.kubelets.values() for c in kubelet.containers.values())
        if len(pods) < self.options.pods or ready < self.options.pods:
            return f"pods {ready}/{self.options.pods}"
        for name, engine in self.engines.items():
            if not engine.running:
                raise RuntimeError(
                    f"the proxy of {name} {engine.how_it_ended}: {engine.last_words() or 'without a message'}"
                )
        healthy = sum(await asyncio.gather(*(engine.healthy() for engine in self.engines.values())))
        if healthy < len(self.engines):
            return f"engines {healthy}/{len(self.engines)}"
        taking = len(self._balancer.taking)
        return "" if taking == len(self.engines) else f"nodes of the load balancer {taking}/{len(self.engines)}"

    def wake(self) -> None:
        """Wake every loop."""
        self._changed.set()
        for kubelet in self.kubelets.values():
            kubelet.wake()

    def _on_change(self, change: StoreChange) -> None:
        # Clients' writes arrive in the server's thread.
        self._loop.call_soon_threadsafe(self.wake)
        if change.resource.startswith("endpointslices"):
            self._ask(change)

    def _ask(self, change: StoreChange) -> None:
        """Let every node's observer wait for the effects of a change of the slices."""
        service = (change.manifest()["metadata"].get("labels") or {}).get(SERVICE_NAME)
        if change.object.namespace != "lab" or service != "web":
            return
        before = [change.previous.manifest()] if change.previous else []
        after = [change.manifest()] if change.type != "DELETED" else []
        for node, observer in self.observers.items():
            asked = questions(used_addresses(before, node), used_addresses(after, node))
            for address, wanted in asked.items():
                observer.ask(address, wanted)

    def oracle(self, node: str) -> Oracle:
        """The node's expected behaviour according to the API's current objects."""
        settings = Settings(cluster_cidr=POD_NETWORK)
        if self.options.kube_version:
            major, minor = self.options.kube_version.split(".")
            settings = replace(settings, version=(int(major), int(minor)))
        oracle = Oracle(node, settings)
        for resource in PROXIED:
            for found in self.api.store.collection(resource).snapshot().objects:
                oracle.observe(Event(0, 0, "ADDED", resource, msgspec.Raw(found.raw)))
        return oracle

    async def stop(self) -> None:
        """End every process; the kernel cleans up the rest when this one ends."""
        for task in self._tasks:
            task.cancel()
        for engine in self.engines.values():
            engine.terminate()
        await self.faults.clear()
        self._stack.close()


def _require_kernel(mode: str) -> None:
    """Raise RuntimeError if the kernel does not support the mode, before every engine fails."""
    why = mode_of(mode).missing(Place("netns", socket.socket, partial(network.run, None)))
    if why:
        raise RuntimeError(
            f"mode {mode}: {why}; a lab shares this machine's kernel; use another --mode, or run it in a"
            " virtual machine, whose kernel has it: `harness chaos run` and `harness replay` with --kernel vm"
        )


async def main(folder: Path, ready: int, lifeline: int | None) -> int:
    """Run until asked to end; returns the exit code."""
    options = msgspec.json.decode((folder / OPTIONS).read_bytes(), type=LabOptions)
    os.chdir(folder)
    lab = Lab(options, folder)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lab.ending.set)
    if lifeline is not None:
        loop.add_reader(lifeline, lab.ending.set)

    def report(line: str) -> None:
        os.write(ready, f"{line}\n".encode())

    loop.add_reader(ready, lab.ending.set)  # the reader of the pipe has ended, so no process waits for the lab
    try:
        await lab.start(report)
        server = await control.serve(Path(control.SOCKET), Operations(lab).dispatch)
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        with suppress(BrokenPipeError):
            os.write(ready, "failed: {}\n".format(str(error).replace("\n", " | ")).encode())
        return 1
    loop.remove_reader(ready)
    os.write(ready, b"ready\n")
    os.close(ready)
    await lab.ending.wait()
    server.close()
    await lab.stop()
    return 0


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:]]
    code = 1
    try:
        # Not asyncio.run, which waits for each task that it cancels, perhaps forever if it is starting a process.
        loop = asyncio.new_event_loop()
        code = loop.run_until_complete(main(Path(sys.argv[1]), numbers[0], numbers[1] if len(numbers) > 1 else None))
    except Exception:  # the exit below would hide it
        traceback.print_exc()
    finally:
        os._exit(code)  # without waiting for tasks or threads: the kernel ends the rest of the lab
