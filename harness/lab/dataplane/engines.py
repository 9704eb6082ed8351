"""One proxy-engine per node: its configuration, its process, its health."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from harness.kube.proxy import HEALTH_PORT, METRICS_PORT, Command, configuration
from harness.lab.dataplane import network
from harness.lab.dataplane.processes import Owner
from harness.lab.timed import holds
from harness.lab.topology import API_ADDRESS, API_PORT, POD_NETWORK, LabNode, LabOptions
from harness.modes import mode_of

LAST_SYNC = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"


def lab_configuration(options: LabOptions, kubeconfig: Path) -> dict[str, Any]:
    """A KubeProxyConfiguration for a node of the lab."""
    # A zero in the file would mean the default, so zero is written as one nanosecond.
    period = f"{max(options.min_sync_period_seconds, 1e-9):.9f}s"
    return configuration(
        "" if mode_of(options.mode).daemon else options.mode,
        str(kubeconfig),
        {"minSyncPeriod": period, "syncPeriod": f"{options.sync_period_seconds:.9f}s"},
        clusterCIDR=POD_NETWORK,
        healthzBindAddress=f"0.0.0.0:{HEALTH_PORT}",
        metricsBindAddress=f"0.0.0.0:{METRICS_PORT}",
    )


def _command(options: LabOptions) -> Command:
    """The external proxy's command if given, else the engine's."""
    if options.external:
        return Command("external", options.external)
    daemon = mode_of(options.mode).daemon
    followed = "" if daemon else options.kube_version  # other daemons do not support versions
    version = (f"--kube-version={followed}",) if followed else ()
    program = daemon or "engine.server.main"
    words = (sys.executable, "-m", program, "--config={config}", *version, "--hostname-override={node}")
    return Command("engine", words)


class Engine(Owner):
    """The node's proxy process: started, signalled and restarted only on request; it has no supervisor."""

    def __init__(self, node: LabNode, options: LabOptions, folder: Path, kubeconfig: Path) -> None:
        super().__init__(f"the engine of {node.name}")
        self.node = node
        self._folder, self._synced = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.yaml"
        self._words = _command(options).filled(
            config=str(config),
            kubeconfig=str(kubeconfig),
            node=node.name,
            api=f"http://{API_ADDRESS}:{API_PORT}",
            mode=options.mode,
        )
        self.has_metrics = not options.external and not mode_of(options.mode).daemon
        self._external = bool(options.external)
        config.write_text(yaml.safe_dump(lab_configuration(options, kubeconfig), sort_keys=False))

    async def start(self) -> None:
        """Start the process unless it is running."""
        command = network.inside(self.node.name, self._words)
        await self._start(command, self._folder / "log")

    def terminate(self) -> None:
        """Send SIGTERM if it is running."""
        if self.running:
            self.send(signal.SIGTERM)

    async def healthy(self) -> bool:
        """Whether /healthz returns 200 within a second, queried from the router; optional for external proxies."""
        try:
            return await holds(self._healthy, 1)
        except ConnectionRefusedError:
            return self._external and self.running
        except OSError:
            return False

    async def _healthy(self) -> bool:
        return b" 200 " in (await self._get(HEALTH_PORT, "/healthz")).partition(b"\r\n")[0]

    async def synced(self) -> bool:
        """Whether the running process has written its rules once; assumed if it has no such metric."""
        process = self._living
        if process is None or self._synced == process.pid:
            return process is not None
        if not self.has_metrics or await self._every_family():
            self._synced = process.pid
        return self._synced == process.pid

    async def _every_family(self) -> bool:
        try:
            return await holds(self._written, 1)
        except OSError:
            return False

    async def _written(self) -> bool:
        return written((await self._get(METRICS_PORT, "/metrics")).decode())

    async def local_endpoints(self, port: int) -> tuple[int, int | None]:
        """Status and number of endpoints reported by a health check node port; (0, None) without an answer."""
        try:
            head, _, body = (await asyncio.wait_for(self._get(port, "/"), 5)).partition(b"\r\n\r\n")
            return int(head.split()[1]), json.loads(body)["localEndpoints"]
        except (OSError, TimeoutError, ValueError, IndexError, KeyError):
            return 0, None

    async def _get(self, port: int, path: str) -> bytes:
        reader, writer = await asyncio.open_connection(self.node.address, port)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return await reader.read()
        finally:
            writer.close()

    def last_words(self) -> str:
        """The end of its log, for error messages."""
        return (self._folder / "log").read_bytes()[-2000:].decode(errors="replace").strip()


def written(metrics: str) -> bool:
    """Whether the rules of every family have been written: its sample is 0 until then."""
    times = [float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(LAST_SYNC)]
    return bool(times) and all(times)
