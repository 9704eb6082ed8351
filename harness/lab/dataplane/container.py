"""A pod on its node: namespace, process, probe results; what a kubelet's runtime keeps of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.lab import network, prober
from harness.lab.probes import Readiness, parse_probe
from harness.lab.processes import is_stopped
from harness.lab.topology import HTTP_PORT, TCP_PORT, UDP_PORT, LabNode

APPLICATION = Path(__file__).with_name("pod_server.py")
HEALTH = ("ok", "fail", "hang")


class Container:
    """Started once, then killed, hung, restarted or ended; `changed` is called when readiness changes."""

    def __init__(
        self, manifest: dict[str, Any], node: LabNode, address: str, folder: Path, drain: float, changed: Callable
    ) -> None:
        self.name = manifest["metadata"]["name"]
        self.address = address
        self.node = node.name
        self.restarts = 0
        self.seen_ended = False
        self.process: asyncio.subprocess.Process | None = None
        self.probe = parse_probe(manifest["spec"]["containers"][0].get("readinessProbe"))
        self.readiness = Readiness(self.probe)
        self._node, self._folder, self._drain, self._changed = node, folder, drain, changed
        self._probing: asyncio.Task | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives; a stopped one does."""
        return self.process is not None and self.process.returncode is None

    @property
    def stopped(self) -> bool:
        """Whether its process was stopped by a signal."""
        return self.running and is_stopped(self.process.pid)

    @property
    def ready(self) -> bool:
        """As the probe says; without one, from its start until a kubelet sees that it ended."""
        return self.process is not None and self.readiness.ready and not self.seen_ended

    async def create(self) -> None:
        """Namespace, process, probe."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.set_health("ok")
        network.add_pod(self._node, self.name, self.address)
        await self.start()

    async def start(self) -> None:
        """Start the process, anew if there was one."""
        if self.running:
            return
        ports = map(str, (HTTP_PORT, TCP_PORT, UDP_PORT))
        words = [sys.executable, "-I", "-S", str(APPLICATION), self.name, self._node.name, str(self._folder)]
        command = network.inside(self.name, [*words, str(self._drain), *ports])
        with open(self._folder / "log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if self.seen_ended:
            self.restarts += 1
        self.seen_ended = False
        self._begin_probing()

    def ended(self) -> None:
        """A kubelet saw its process end: what comes next is a new container, of which nothing is known."""
        self.seen_ended = True
        self.readiness.restarted()
        self.pause_probing()

    def set_health(self, word: str) -> None:
        """What /healthz does from now on: one of `HEALTH`."""
        if word not in HEALTH:
            raise ValueError(f"{word!r} is no health; one of {', '.join(HEALTH)} is needed")
        # Renamed into place: the application must never read half of it.
        partial = self._folder / "health.partial"
        partial.write_text(word)
        partial.rename(self._folder / "health")
        self.health = word

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal; ProcessLookupError when it has ended."""
        if not self.running:
            raise ProcessLookupError(f"{self.name} has no running process")
        self.process.send_signal(number)

    async def end(self, grace_seconds: float) -> None:
        """SIGTERM, wait, SIGKILL; the probe goes on till the end, as a kubelet's does."""
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), grace_seconds)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()

    def remove(self) -> None:
        """Probe and namespace; the process has ended."""
        self.pause_probing()
        network.remove_pod(self.name)

    def pause_probing(self) -> None:
        """No probes until `resume_probing`: the kubelet is gone."""
        if self._probing:
            self._probing.cancel()
            self._probing = None

    def resume_probing(self) -> None:
        """Go on, without the initial delay."""
        if self.probe and not self._probing:
            self._probing = asyncio.create_task(self._probe_for_ever(0))

    def _begin_probing(self) -> None:
        self.pause_probing()
        if self.probe:
            self._probing = asyncio.create_task(self._probe_for_ever(self.probe.initial_delay_seconds))

    async def _probe_for_ever(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(delay)
        due = loop.time()
        while True:
            if self.readiness.observe(await prober.passes(self.probe, self._node.name, self.name, self.address)):
                self._changed(self)
            due = max(due + self.probe.period_seconds, loop.time())
            await asyncio.sleep(due - loop.time())
