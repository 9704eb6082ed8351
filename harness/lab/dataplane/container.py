"""A pod on its node: namespace, process and probe results, as kept by a kubelet's runtime."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from harness.kube.resources import Manifest
from harness.lab.control_plane import prober
from harness.lab.control_plane.probes import Probe, Readiness, parse_probe
from harness.lab.dataplane import network
from harness.lab.dataplane.processes import Owner
from harness.lab.topology import HTTP_PORT, TCP_PORT, UDP_PORT, LabNode

APPLICATION = Path(__file__).with_name("pod_server.py")
HEALTH = ("ok", "fail", "hang")


class Container(Owner):
    """Started once, then killed, hung, restarted or ended; `changed` is called when readiness changes."""

    def __init__(
        self,
        manifest: Manifest,
        node: LabNode,
        address: str,
        folder: Path,
        drain: float,
        changed: Callable[[Container], None],
    ) -> None:
        super().__init__(manifest["metadata"]["name"])
        self.address = address
        self.node = node.name
        self.restarts = 0
        self.seen_ended = False
        self.probe = parse_probe(manifest["spec"]["containers"][0].get("readinessProbe"))
        self.readiness = Readiness(self.probe)
        self._node, self._folder, self._drain, self._changed = node, folder, drain, changed
        self._probing: asyncio.Task[None] | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code of its ended process; None while running."""
        return self.process.returncode if self.process else None

    async def wait(self) -> None:
        """Wait until its process has ended."""
        assert self.process, "it was created"
        await self.process.wait()

    @property
    def ready(self) -> bool:
        """Readiness by the probe; without one, true from its start until a kubelet detects its end."""
        return self.process is not None and self.readiness.ready and not self.seen_ended

    async def create(self) -> None:
        """Create the namespace and start process and probe."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.set_health("ok")
        network.add_pod(self._node, self.name, self.address)
        await self.start()

    async def start(self) -> None:
        """Start or restart the process."""
        ports = map(str, (HTTP_PORT, TCP_PORT, UDP_PORT))
        words = [sys.executable, "-I", "-S", str(APPLICATION), self.name, self._node.name, str(self._folder)]
        command = network.inside(self.name, [*words, str(self._drain), *ports])
        if not await self._start(command, self._folder / "log"):
            return
        if self.seen_ended:
            self.restarts += 1
        self.seen_ended = False
        self._begin_probing()

    def ended(self) -> None:
        """Called once a kubelet detects the end of its process: the next is a new container without probe results."""
        self.seen_ended = True
        self.readiness.restarted()
        self.pause_probing()

    def set_health(self, word: str) -> None:
        """Set the behaviour of /healthz: one of `HEALTH`."""
        if word not in HEALTH:
            raise ValueError(f"{word!r} is not a health state; choose from {', '.join(HEALTH)}")
        # Renamed into place: the application must never read half of it.
        partial = self._folder / "health.partial"
        partial.write_text(word)
        partial.rename(self._folder / "health")
        self.health = word

    async def end(self, grace_seconds: float) -> None:
        """SIGTERM, wait, SIGKILL; the probe continues until the end, as with a kubelet."""
        if process := self._living:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), grace_seconds)
            except TimeoutError:
                process.kill()
                await process.wait()

    def remove(self) -> None:
        """Remove probe and namespace after the process has ended."""
        self.pause_probing()
        network.remove_pod(self.name)

    def pause_probing(self) -> None:
        """Stop probing until `resume_probing`, because the kubelet is stopped."""
        if self._probing:
            self._probing.cancel()
            self._probing = None

    def resume_probing(self) -> None:
        """Continue probing, without the initial delay."""
        if self.probe and not self._probing:
            self._probing = asyncio.create_task(self._probe_for_ever(self.probe, 0))

    def _begin_probing(self) -> None:
        self.pause_probing()
        if self.probe:
            self._probing = asyncio.create_task(self._probe_for_ever(self.probe, self.probe.initial_delay_seconds))

    async def _probe_for_ever(self, probe: Probe, delay: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(delay)
        due = loop.time()
        while True:
            if self.readiness.observe(await prober.passes(probe, self._node.name, self.name, self.address)):
                self._changed(self)
            due = max(due + probe.period_seconds, loop.time())
            await asyncio.sleep(due - loop.time())
