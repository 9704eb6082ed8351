"""The environment of a measured proxy: a node with pods and an external network, an API on its loopback, the proxy."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import yaml

from harness.apiserver import LiveApi
from harness.apiserver.kubeconfig import write_kubeconfig
from harness.external.moments import Moments
from harness.external.usage import Usage
from harness.kube.proxy import AT_ONCE, HEALTH_PORT, METRICS_PORT, Command, configuration
from harness.modes import mode_of
from harness.places.world import World
from harness.temporary import temporary_folder

API_PORT = 6443
LOCK_VARIABLE = "XTABLES_LOCKFILE"
END_SECONDS = 10.0
MOST_LOG_BYTES, LAST_BYTES = 16 << 20, 4000
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""The proxy never outlives this process."""
_TOOLS = ("", "-save", "-restore")


class Ended(RuntimeError):
    """The proxy has exited; the message contains its exit status and last line of output."""


class ProxyEnvironment:
    """Context manager for the environment of one proxy in one mode; `start` starts it.

    `fields` are added to its KubeProxyConfiguration; `variant` is the iptables variant on its PATH, if given.
    """

    def __init__(
        self,
        command: Command,
        mode: str,
        node: str,
        fields: Mapping[str, Any],
        variant: str | None = None,
        pods_interface: str = "pods0",
        version: str = "",
    ) -> None:
        self.command, self.mode, self.node = command, mode, node
        self._fields, self._variant, self._version = dict(fields), variant, version
        self.world = World(pods_interface, mode_of(mode).user_namespace)
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.usage: Usage | None = None

    def __enter__(self) -> ProxyEnvironment:
        try:
            self.folder = self._stack.enter_context(temporary_folder("external"))
            self._stack.enter_context(self.world)
            listening = self.world.node.socket(socket.AF_INET, socket.SOCK_STREAM)
            listening.bind(("127.0.0.1", API_PORT))
            self.api = self._stack.enter_context(LiveApi(bound=listening, version=self._version))
            self.moments = self._stack.enter_context(Moments(self.world.node))
            self._stack.callback(self.stop)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def start(self) -> float:
        """Start the proxy; returns the time of the start on the monotonic clock."""
        kubeconfig, config = self.folder / "kubeconfig", self.folder / "config.yaml"
        write_kubeconfig(kubeconfig, self.api.kubeconfig())
        config.write_text(yaml.safe_dump(self._configuration(str(kubeconfig)), sort_keys=False))
        words = self.command.filled(
            kubeconfig=str(kubeconfig), api=self.api.url, node=self.node, config=str(config), mode=self.mode
        )
        with open(self.folder / "log", "ab") as log:
            began = time.monotonic()
            self._process = subprocess.Popen(
                self.world.node.inside([*DIES_WITH_US, *words]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        self.usage = Usage(self._process.pid)
        return began

    def _configuration(self, kubeconfig: str) -> dict[str, Any]:
        sync = {"minSyncPeriod": AT_ONCE, "syncPeriod": "30s"}
        addresses = {
            "healthzBindAddress": f"127.0.0.1:{HEALTH_PORT}",
            "metricsBindAddress": f"127.0.0.1:{METRICS_PORT}",
        }
        return configuration(self.mode, kubeconfig, sync, hostnameOverride=self.node, **addresses | self._fields)

    def _environment(self) -> dict[str, str]:
        """A separate lock for the tools, and the requested variant's tools first on the PATH."""
        found = os.environ | {LOCK_VARIABLE: str(self.folder / "xtables.lock")}
        if self._variant:
            first = self.folder / "bin"
            first.mkdir(exist_ok=True)
            for name in (f"{tool}{end}" for tool in ("iptables", "ip6tables") for end in _TOOLS):
                real = shutil.which(name.replace("tables", f"tables-{self._variant}", 1))
                if real and not (first / name).exists():
                    # A script, not a link: the binary chooses its function by the name it is called with.
                    (first / name).write_text(f'#!/bin/sh\nexec {real} "$@"\n')
                    (first / name).chmod(0o755)
            found["PATH"] = f"{first}:{found['PATH']}"
        return found

    @property
    def running(self) -> bool:
        """Whether the proxy is running."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise Ended if the proxy has exited."""
        self._shorten()
        if self._process is not None and (code := self._process.poll()) is not None:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            words = self.last_words()
            raise Ended(f"it {how}{f': {words}' if words else ''}")

    def last_words(self) -> str:
        """The last line of its output, if any."""
        lines = self._end_of_log().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _end_of_log(self) -> bytes:
        with open(self.folder / "log", "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_BYTES))
            return log.read()

    def _shorten(self) -> None:
        """Keep only the end of a large log; the proxy, which may print for hours, has it open for appending."""
        path = self.folder / "log"
        if path.exists() and path.stat().st_size > MOST_LOG_BYTES:
            end = self._end_of_log()
            os.truncate(path, 0)
            with open(path, "ab") as log:
                log.write(end)

    def stop(self) -> None:
        """Stop the proxy and its children; its rules stay in the kernel."""
        if self.usage:
            self.usage.end()
            self.usage = None
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill_group(process.pid)
            process.wait()
            self._kill_runaways()

    @staticmethod
    def _kill_group(pid: int) -> None:
        """Kill its session, which it leads."""
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _kill_runaways(self) -> None:
        """Children that started a new session, recognised by the folder in their inherited environment."""
        mark = f"{LOCK_VARIABLE}={self.folder}/".encode()
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with suppress(OSError):
                    if mark in (process / "environ").read_bytes():
                        os.kill(int(process.name), signal.SIGKILL)

    def metrics(self) -> str:
        """Its metrics page; "" if it serves none."""
        with self.world.node.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(5.0)
            try:
                sock.connect(("127.0.0.1", METRICS_PORT))
                sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                page = b""
                while data := sock.recv(1 << 16):
                    page += data
            except OSError:
                return ""
        head, _, body = page.partition(b"\r\n\r\n")
        return body.decode(errors="replace") if b" 200 " in head.split(b"\r\n")[0] else ""
