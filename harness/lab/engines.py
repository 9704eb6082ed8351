"""One proxy-engine a node: its configuration, its process, its health."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from harness.lab import network
from harness.lab.processes import is_stopped
from harness.lab.topology import POD_NETWORK, LabNode, LabOptions

HEALTH_PORT, METRICS_PORT = 10256, 10249
PROGRAMS = {"userspace": "harness.lab.userspace_engine"}
"""The engine's module by mode, where it is not proxy-engine's."""


def configuration(options: LabOptions, kubeconfig: Path) -> dict[str, Any]:
    """A KubeProxyConfiguration for a node of the lab."""
    # An engine of a lab must be told in nanoseconds where a zero in the file would mean the default.
    period = f"{max(options.min_sync_period_seconds, 1e-9):.9f}s"
    block = {"minSyncPeriod": period, "syncPeriod": "30s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "" if options.mode == "userspace" else options.mode,
        "clusterCIDR": POD_NETWORK,
        "healthzBindAddress": f"0.0.0.0:{HEALTH_PORT}",
        "metricsBindAddress": f"0.0.0.0:{METRICS_PORT}",
        "iptables": block,
        "ipvs": block,
        "nftables": block,
    }


class Engine:
    """The node's proxy process: started, signalled, restarted; never watched by a supervisor of its own."""

    def __init__(self, node: LabNode, options: LabOptions, folder: Path, kubeconfig: Path) -> None:
        self.node = node
        self.process: asyncio.subprocess.Process | None = None
        self._program = PROGRAMS.get(options.mode, "engine.server.main")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "config.yaml"
        self._config.write_text(yaml.safe_dump(configuration(options, kubeconfig), sort_keys=False))

    @property
    def running(self) -> bool:
        """Whether the process lives; a stopped one does."""
        return self.process is not None and self.process.returncode is None

    @property
    def stopped(self) -> bool:
        """Whether the process was stopped by a signal."""
        return self.running and is_stopped(self.process.pid)

    async def start(self) -> None:
        """Start it unless it runs."""
        if self.running:
            return
        words = [sys.executable, "-m", self._program, f"--config={self._config}"]
        command = network.inside(self.node.name, [*words, f"--hostname-override={self.node.name}"])
        with open(self._folder / "log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal; ProcessLookupError when it has ended."""
        if not self.running:
            raise ProcessLookupError(f"the engine of {self.node.name} does not run")
        self.process.send_signal(number)

    async def healthy(self) -> bool:
        """Whether /healthz answers 200 within a second, asked from the router."""
        try:
            return await asyncio.wait_for(self._healthy(), 1)
        except (OSError, TimeoutError):
            return False

    async def _healthy(self) -> bool:
        reader, writer = await asyncio.open_connection(self.node.address, HEALTH_PORT)
        try:
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()

    def last_words(self) -> str:
        """The end of its log, for error messages."""
        return (self._folder / "log").read_bytes()[-2000:].decode(errors="replace").strip()
