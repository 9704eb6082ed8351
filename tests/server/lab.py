"""One node to test the daemon on: a namespace with `harness serve` and `proxy-engine` inside, both real processes.

recording (initial list, then events) ─► harness serve ─HTTPS, token─► proxy-engine ─► the namespace's kernel
                   └──────────────► oracle ────────── must agree ──────── read back ◄──┘
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import yaml

from harness.judge.oracle import Oracle, Settings
from harness.judge.readback.compare import compare
from harness.log import open_source
from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.writer import initial_events_end, write_recording
from harness.modes import mode_of
from harness.places import vm
from harness.places.namespace import Namespace
from harness.places.place import Place
from tests.waiting import until

NODE, ADDRESS = "n1", "192.168.0.2"
HCNP = 32000
API_PORT, HEALTHZ, METRICS = 8001, 10256, 10249
TOKEN = "s3cret"
SERVICES = "172.30.0.0/16"
PODS = "10.0.0.0/8,fd00:10::/32"
WAIT_SECONDS = 60.0
SLOWER = 4 if vm.inside() and vm.accelerator() == "tcg" else 1
"""How many times as long things may take where the machine is emulated."""

RESOURCES = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}
API_VERSIONS = {"Service": "v1", "Node": "v1", "EndpointSlice": "discovery.k8s.io/v1"}


def eventually(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> object:
    """Wait until `condition` holds, and give what it gave; AssertionError with `what` when it never does."""
    return until(condition, what, seconds * SLOWER)


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> dict:
        """The body's value."""
        return json.loads(self.body)


def enter(namespace: Namespace) -> list[str]:
    """What to put before a command that is to run inside."""
    return ["nsenter", "-t", str(namespace.pid), "-n", "-U", "--preserve-credentials", "--"]


class Process:
    """A program inside a namespace, its output in a file."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        self._before = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def text(self) -> str:
        """All its output so far."""
        return self.log.read_bytes()[self._before :].decode()

    def count(self, words: str) -> int:
        """How often it wrote this."""
        return self.text().count(words)

    @property
    def pid(self) -> int:
        """Of the program itself, `nsenter` and `env` having become it."""
        return self.popen.pid

    def says(self, words: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until it wrote this."""
        eventually(lambda: words in self.text() or self.popen.poll() is not None, f"{words!r} in {self.log}", seconds)
        assert words in self.text(), self.text()

    def end(self, hard: bool = False) -> int:
        """SIGTERM, or SIGKILL; its exit code."""
        (self.popen.kill if hard else self.popen.terminate)()
        return self.popen.wait(WAIT_SECONDS)


class Lab:
    """Context manager; `objects` are listed at first, then come the `events` (type, object), a `step` each."""

    def __init__(
        self,
        folder: Path,
        namespace: Namespace,
        certificate: tuple[str, str],
        mode: str = "nftables",
        entered: bool = False,
    ) -> None:
        """`entered`: this process is in the place that `namespace` stands for."""
        self._certificate = certificate
        self.folder, self.namespace, self.mode = folder, namespace, mode
        self._enter = [] if entered else enter(namespace)
        self._stack = contextlib.ExitStack()
        self._seen: list[Event] = []
        self._events: list[Event] = []
        self._view = None
        self._daemon: Process | None = None
        self._node, self._cluster_cidr = NODE, PODS

    def __enter__(self) -> Lab:
        assert self.namespace.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"]).returncode == 0
        place = Place("namespace", self.namespace.socket, self.namespace.run)
        self._view = self._stack.enter_context(mode_of(self.mode).real(place)).view
        return self

    def __exit__(self, *_exception) -> None:
        self._stack.close()

    def record(self, objects: list[dict], events: list[tuple[str, dict]] = ()) -> None:
        """Write the recording that `serve` will serve."""
        numbered = iter(range(1, 10**6))
        initial = [self._event(next(numbered), "ADDED", each, 0) for each in objects]
        ends = [initial_events_end(next(numbered), 0, resource) for resource in RESOURCES.values()]
        self._events = [self._event(next(numbered), kind, each) for kind, each in events]
        self._seen = initial
        cluster = {"clusterCIDR": PODS, "serviceCIDRs": [SERVICES]}
        header = Header(format=FORMAT, version=VERSION, cluster=cluster)
        write_recording(self.recording, header, [*initial, *ends, *self._events])

    def replay(self, recording: Path, node: str) -> None:
        """Serve a recording that is there already, as a node of it; all of it will have happened."""
        shutil.copy(recording, self.recording)
        with open_source(str(recording)) as source:
            self._cluster_cidr, self._node = source.header.cluster["clusterCIDR"], node
            self._seen = list(source)

    def _event(self, seq: int, kind: str, value: dict, apart: int = 3600 * 10**9) -> Event:
        meta = value["metadata"] | {"resourceVersion": str(seq), "uid": f"u{seq}"}
        manifest = {"apiVersion": API_VERSIONS[value["kind"]], **value, "metadata": meta}
        # An hour between two, so that none happens before its step.
        return Event(seq, seq * apart, kind, RESOURCES[value["kind"]], msgspec.Raw(msgspec.json.encode(manifest)))

    @property
    def recording(self) -> Path:
        """What is served."""
        return self.folder / "recording.jsonl"

    @property
    def kubeconfig(self) -> Path:
        """How the daemon finds the API server."""
        return self.folder / "kubeconfig"

    def serve(self, *options: str, wait: bool = True) -> Process:
        """Start the API server; it stands at the recording's initial list."""
        command = [
            sys.executable, "-m", "harness", "serve", str(self.recording), "--start-paused", "--port", str(API_PORT),
            "--tls-cert", self._certificate[0], "--tls-key", self._certificate[1], "--token", TOKEN,
            "--write-kubeconfig", str(self.kubeconfig), *options,
        ]  # fmt: skip
        process = self._start(command, "serve.log")
        if wait:
            process.says("serving")
        return process

    def daemon(self, *arguments: str, environment: dict[str, str] | None = None, **fields) -> Process:
        """Start the daemon with these fields of its configuration file."""
        block = {"syncPeriod": "30s", "minSyncPeriod": "1ns"} | fields.pop("periods", {})
        configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": self.mode,
            "hostnameOverride": self._node,
            "clusterCIDR": self._cluster_cidr,
            "clientConnection": {"kubeconfig": str(self.kubeconfig)},
            "logging": {"verbosity": 2},
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            self.mode: block,
        } | fields
        self.config_file.write_text(yaml.safe_dump(configuration))
        self._broken.parent.mkdir(exist_ok=True)
        variables = {"PATH": f"{self._broken.parent}:{os.environ['PATH']}"} | (environment or {})
        command = [
            "env",
            *(f"{name}={value}" for name, value in variables.items()),
            sys.executable,
            "-m",
            "engine.server.main",
            "--config",
            str(self.config_file),
        ]
        self._daemon = self._start([*command, *arguments], "daemon.log")
        return self._daemon

    @property
    def config_file(self) -> Path:
        """The daemon's configuration."""
        return self.folder / "config.yaml"

    def _start(self, command: list[str], log: str) -> Process:
        process = Process(self._enter + command, self.folder / log)
        self._stack.callback(lambda: process.popen.poll() is None and process.end(hard=True))
        return process

    def step(self, count: int = 1) -> None:
        """Let the next events happen."""
        for event in self._events[:count]:
            while self.http(API_PORT, "/control/step", "POST", tls=True).json()["seq"] < event.seq:
                pass  # a marker
            self._seen.append(event)
        del self._events[:count]

    @property
    def pods(self) -> str:
        """The cluster's pod CIDRs."""
        return PODS

    def forbid_nft(self) -> None:
        """Make the kernel refuse whatever the daemon sends: its endpoint map is gone, and nft with it."""
        self.namespace.run(["nft", "flush map ip kube-proxy tcp-endpoints"])
        self._instead_of_nft("echo no nft today >&2\nexit 1")

    def forbid_ipv6(self) -> None:
        """Have nft refuse scripts for IPv6."""
        nft = shutil.which("nft")
        self._instead_of_nft(
            f'[ "$1" = -f ] || exec {nft} "$@"\nscript=$(mktemp)\ncat > "$script"\n'
            f'grep -q "table ip6" "$script" && rm "$script" && echo no IPv6 today >&2 && exit 1\n'
            f'{nft} -f "$script"; status=$?; rm "$script"; exit $status'
        )

    def old_nft(self) -> None:
        """Make nft say that it is an old one."""
        self._instead_of_nft("echo 'nftables v0.9.8 (E.D.S.)'")

    def events(self) -> set[str]:
        """Reasons of the Events that the API server was sent."""
        listed = self.http(API_PORT, "/apis/events.k8s.io/v1/events", tls=True).json()
        return {event["reason"] for event in listed["items"]}

    def slow_nft(self) -> None:
        """Make each step that needs nft take a while."""
        self._instead_of_nft(f'sleep 0.2\nexec {shutil.which("nft")} "$@"')

    def _instead_of_nft(self, script: str) -> None:
        self.instead_of("nft", script)

    def instead_of(self, tool: str, script: str) -> None:
        """What the daemon runs for a tool, as a shell script."""
        file = self._broken.with_name(tool)
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def allow_nft(self) -> None:
        """As before."""
        self._broken.unlink()

    @property
    def _broken(self) -> Path:
        return self.folder / "bin" / "nft"

    def skip(self) -> None:
        """What is left of the events has happened some other way."""
        self._seen += self._events

    def back(self, count: int) -> None:
        """The last events never happened."""
        del self._seen[-count:]

    def http(
        self, port: int, path: str, method: str = "GET", host: str = "127.0.0.1", tls: bool = False
    ) -> Reply | None:
        """An answer from inside the namespace, None when nobody listens."""
        with self.namespace.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(WAIT_SECONDS)
            try:
                sock.connect((host, port))
                connection = http.client.HTTPConnection(host, port)
                connection.sock = wrapped(sock) if tls else sock
                connection.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
                answer = connection.getresponse()
                return Reply(answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()})
            except ConnectionError:
                return None

    def says(self, port: int, path: str, status: int, host: str = "127.0.0.1") -> Reply | None:
        """The answer if it has this status; the daemon must be alive."""
        assert self._daemon.popen.poll() is None, self._daemon.text()
        answer = self.http(port, path, host=host)
        return answer if answer and answer.status == status else None

    def health_check(self, path: str, method: str = "GET") -> Reply | None:
        """An answer of the Service's health check port, which is open on the node's own address."""
        return self.http(HCNP, path, method, ADDRESS)

    def differences(self) -> list[str]:
        """Between what the kernel holds, read back, and what the oracle says of all events so far."""
        oracle = Oracle(self._node, Settings(cluster_cidr=self._cluster_cidr))
        for event in self._seen:
            oracle.observe(event)
        found = []
        for family in (4, 6):
            try:
                actual = self._view.behaviour(family)
            except ValueError as error:
                return [f"IPv{family} contradicts itself: {error}"]
            if actual is None:
                return [f"IPv{family} is not programmed"]
            found += compare(oracle.behaviour(family, self.mode), actual)
        return found

    def converges(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the kernel is as the oracle says."""
        deadline = time.monotonic() + seconds
        while found := self.differences():
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def start(self, objects: list[dict], events=(), **fields) -> Process:
        """A daemon that has converged on the initial list."""
        self.record(objects, events)
        self.serve()
        process = self.daemon(**fields)
        self.converges()
        for port in (HEALTHZ, METRICS):
            eventually(lambda port=port: self.http(port, "/healthz"), f"port {port}")
        return process

    def metrics(self) -> dict[str, float]:
        """Each sample of /metrics, by its name with labels."""
        lines = self.http(METRICS, "/metrics").body.decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def wrapped(sock: socket.socket):
    """TLS over a connection, whatever the certificate."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)
