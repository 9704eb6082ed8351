"""The lab's first process: builds everything, keeps the control plane going, ends it all.

    python -m harness.lab.supervisor FOLDER READY_FD [LIFELINE_FD]

Run by `launch` as process 1 of the lab's namespaces.  It tells its progress as lines on READY_FD, the last one
`ready`; it ends at an operation `stop`, at SIGTERM, or when the other end of LIFELINE_FD closes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import traceback
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from harness.lab import control, network
from harness.lab.api import SERVICE_LABEL, Api
from harness.lab.api_server import ApiServer
from harness.lab.background import add_background
from harness.lab.balancer import Balancer
from harness.lab.controllers import Nodes, Replicas, Slices
from harness.lab.engines import Engine
from harness.lab.flows import Lookup
from harness.lab.kubelet import Kubelet
from harness.lab.launch import OPTIONS, RECORDING
from harness.lab.operations import Operations
from harness.lab.topology import (
    POD_NETWORK,
    SERVICE_NETWORK,
    LabOptions,
    node_manifest,
    nodes_of,
    service_manifests,
)
from harness.lab.witness import NodeWitness, questions, ready_addresses
from harness.modes import module_of
from harness.modes.place import Place
from harness.serve.journal import Journal
from harness.serve.kubeconfig import write_kubeconfig
from harness.serve.live import LiveStore
from harness.serve.store import Change

READY_SECONDS = 90.0
CLUSTER = {"name": "lab", "clusterCIDR": POD_NETWORK, "serviceCIDRs": [SERVICE_NETWORK]}


class Lab:
    """Everything that runs; made inside the namespaces."""

    def __init__(self, options: LabOptions, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.recording = folder / RECORDING
        self.nodes = nodes_of(options)
        self.api = Api(LiveStore())
        self.faults = ApiServer(self.api)
        kubeconfig = folder / "kubeconfig"
        self.kubelets = {n.name: Kubelet(n, options, self.api, folder / "pods") for n in self.nodes}
        self.engines = {n.name: Engine(n, options, folder / n.name, kubeconfig) for n in self.nodes}
        self.replicas, self._slices = Replicas(options, self.api), Slices(self.api)
        self.unplugged: set[str] = set()
        self.watches_wanted = 0
        """How many watches the engines have while all of them follow the API."""
        self._stack = ExitStack()
        self.observations: list[dict[str, Any]] = []
        self.ending = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task] = []

    async def start(self, tell) -> None:
        """Bring everything up; `tell(line)` gets the progress. RuntimeError when it does not get ready in time."""
        _require_kernel(self.options.mode)
        tell("network")
        network.build(self.nodes)
        translates = getattr(module_of(self.options.mode), "TRANSLATES", True)
        self.lookup = Lookup(n.name for n in self.nodes if translates)
        tell("api")
        add_background(self.api.store, self.options.background_services, self.options.seed)
        for manifest in [node_manifest(n) for n in self.nodes]:
            await self.api.write("nodes", manifest)
        for manifest in service_manifests():
            await self.api.write("services", manifest)
        self.log = self._stack.enter_context(Journal(self.recording, self.api.store, CLUSTER))
        self.witnesses = {
            n.name: NodeWitness(n.name, n.address, self.options.mode, self._report, lambda: self.log.seconds)
            for n in self.nodes
        }
        self._loop = asyncio.get_running_loop()
        self.api.store.subscribe(self._on_change)
        self._stack.enter_context(self.faults.live)
        write_kubeconfig(self.folder / "kubeconfig", self.faults.live.kubeconfig())
        await self._start_loops()
        await self._get_ready(tell)

    async def _start_loops(self) -> None:
        loops = [kubelet.run() for kubelet in self.kubelets.values()]
        loops += [
            self._control_loop(),
            Nodes(self.options, self.api, self.kubelets).run(),
            Balancer(self.engines).run(),
        ]
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        for task in self._tasks:
            task.add_done_callback(self._loop_ended)
        for engine in self.engines.values():
            await engine.start()
        self.wake()

    def _loop_ended(self, task: asyncio.Task) -> None:
        """A loop that fails ends the lab, loudly: half a control plane would lie."""
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

    async def _get_ready(self, tell) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        told = ""
        while missing := await self._missing():
            if missing != told:
                tell(missing)
                told = missing
            if self.ending.is_set() or asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"the lab did not get ready: {missing}")
            await asyncio.sleep(0.05)
        for witness in self.witnesses.values():
            witness.start()
            for pod in self.api.pods():
                witness.ask(pod["status"]["podIP"], True)
        while any(witness.open_questions for witness in self.witnesses.values()):
            if asyncio.get_running_loop().time() > deadline:
                raise RuntimeError("the lab did not get ready: the kernels do not hold the pods")
            await asyncio.sleep(0.05)
        self.observations.clear()
        self.watches_wanted = self.faults.live.watchers

    async def _missing(self) -> str:
        """What the lab still waits for; empty when nothing."""
        pods = self.api.pods()
        ready = sum(c.ready for kubelet in self.kubelets.values() for c in kubelet.containers.values())
        if len(pods) < self.options.pods or ready < self.options.pods:
            return f"pods {ready}/{self.options.pods}"
        for name, engine in self.engines.items():
            if not engine.running:
                raise RuntimeError(f"the engine of {name} ended: {engine.last_words()}")
        healthy = sum(await asyncio.gather(*(engine.healthy() for engine in self.engines.values())))
        return "" if healthy == len(self.engines) else f"engines {healthy}/{len(self.engines)}"

    def wake(self) -> None:
        """Let every loop look again."""
        self._changed.set()
        for kubelet in self.kubelets.values():
            kubelet.wake()

    def _on_change(self, change: Change) -> None:
        # Clients' writes come from the server's thread.
        self._loop.call_soon_threadsafe(self.wake)
        if change.resource.startswith("endpointslices"):
            self._ask(change)

    def _ask(self, change: Change) -> None:
        """Ask every node's witness for what a change of the slices must bring about."""
        service = change.manifest()["metadata"]["labels"].get(SERVICE_LABEL)
        if change.object.namespace != "lab" or service != "web":
            return
        before = ready_addresses([change.previous.manifest()] if change.previous else [])
        after = ready_addresses([change.manifest()] if change.type != "DELETED" else [])
        for address, wanted in questions(before, after).items():
            for witness in self.witnesses.values():
                witness.ask(address, wanted)

    def _report(self, node: str, address: str, wanted: bool, asked: float, seen: float | None, until: float) -> None:
        told = {"node": node, "address": address, "wanted": wanted, "asked": asked, "seen": seen, "until": until}
        self.observations.append(told)

    async def stop(self) -> None:
        """End every process; the kernel does the rest when this one ends."""
        for task in self._tasks:
            task.cancel()
        for engine in self.engines.values():
            if engine.running:
                engine.process.terminate()
        await self.faults.clear()
        self._stack.close()


def _require_kernel(mode: str) -> None:
    """RuntimeError where the kernel in here cannot do the mode: at once, not when every engine has failed."""
    module = module_of(mode)
    why = (
        module.missing(Place("netns", socket.socket, partial(network.run, None)))
        if hasattr(module, "missing")
        else None
    )
    if why:
        raise RuntimeError(
            f"mode {mode}: {why}; a lab shares this machine's kernel, so take another --mode here, and give the"
            f" recording to `harness replay --mode {mode} --kernel uml`, which boots a kernel that has it"
        )


async def main(folder: Path, ready: int, lifeline: int | None) -> int:
    """Until told to end; the exit code."""
    options = msgspec.json.decode((folder / OPTIONS).read_bytes(), type=LabOptions)
    os.chdir(folder)
    lab = Lab(options, folder)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lab.ending.set)
    if lifeline is not None:
        loop.add_reader(lifeline, lab.ending.set)
    loop.add_reader(ready, lab.ending.set)  # an end of a pipe that nobody reads any more: whoever waited is gone
    try:
        await lab.start(lambda line: os.write(ready, f"{line}\n".encode()))
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
        code = asyncio.run(main(Path(sys.argv[1]), numbers[0], numbers[1] if len(numbers) > 1 else None))
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)  # no thread is waited for: the kernel ends all that is left of the lab
