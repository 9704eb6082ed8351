"""A cluster to record from, whose connections can be cut, and the recorder as its users run it."""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import yaml

from harness.apiserver import LiveApi
from harness.apiserver.live import LiveStore
from harness.log import open_source
from harness.log.state import State
from tests.waiting import until

SECONDS = 60
"""Bound of every wait here."""

RESOURCES = ("nodes", "services", "endpointslices")


class Proxy:
    """TCP to a server that can be cut off and replaced, as an API server's load balancer."""

    def __init__(self, target: int) -> None:
        self.target: int | None = target
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection."""
        pairs, self._pairs = self._pairs, []
        for end in pairs:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target or 1))
            except OSError:
                near.close()
                continue
            self._pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(1 << 16):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Cluster:
    """Live state behind a proxy, with a kubeconfig; a context manager."""

    def __init__(self, folder: Path, **options) -> None:
        self.folder, self.options = folder, options
        self.api = LiveApi(**options).__enter__()
        self.proxy = Proxy(self._port())
        self.kubeconfig = folder / "kubeconfig"
        self._write_kubeconfig()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_exception) -> None:
        self.proxy.close()
        self.api.__exit__()

    @property
    def store(self):
        return self.api.store

    def restart(self, keep: bool) -> None:
        """The API server goes and comes back, with its state or with an empty one."""
        store = self.store if keep else LiveStore()
        self.proxy.target = None
        self.proxy.cut()
        self.api.__exit__()
        self.api = LiveApi(store, **self.options).__enter__()
        self.proxy.target = self._port()

    def churn(self, seed: int, changes: int, services: int = 30) -> None:
        """Services, slices and nodes come, change and go."""
        chance = random.Random(seed)
        for number in range(changes):
            self.change(chance, chance.randrange(services), number)

    def change(self, chance: random.Random, which: int, number: int) -> None:
        kind = chance.choice(("services", "endpointslices", "endpointslices", "nodes"))
        namespace = ("shop", "pay")[which % 2]
        metadata = {"name": f"{kind}-{which}", "namespace": namespace, "labels": {"app": f"a{which % 3}"}}
        if kind == "nodes":
            del metadata["namespace"]
        if chance.random() < 0.15:
            try:
                self.store.delete(kind, metadata["name"], metadata.get("namespace", ""))
            except Exception as error:
                assert "not found" in str(error)
            return
        self.store.apply(kind, {"metadata": metadata, **_body(kind, which, number)})

    def truth(self, resources=RESOURCES) -> dict:
        """Every object by resource, namespace and name."""
        return {
            (resource, m["metadata"].get("namespace", ""), m["metadata"]["name"]): _plain(m)
            for resource in resources
            for m in self.store.list(resource)
        }

    def _port(self) -> int:
        return int(self.api.url.rsplit(":", 1)[1])

    def _write_kubeconfig(self) -> None:
        config = self.api.kubeconfig()
        for cluster in config["clusters"]:
            server = cluster["cluster"]["server"]
            cluster["cluster"]["server"] = re.sub(r":\d+$", f":{self.proxy.port}", server)
        self.kubeconfig.write_text(yaml.safe_dump(config))


def _body(kind: str, which: int, number: int) -> dict:
    if kind == "services":
        ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8000 + number % 100}]
        return {"spec": {"type": "ClusterIP", "clusterIP": f"10.96.0.{which + 1}", "ports": ports}}
    if kind == "nodes":
        return {"spec": {"podCIDR": f"10.128.{which}.0/24"}, "status": {"phase": str(number)}}
    addresses = [f"10.128.{which}.{n + 1}" for n in range(1 + number % 5)]
    endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}]}


def _plain(manifest: dict) -> dict:
    manifest["metadata"].pop("managedFields", None)
    return {key: value for key, value in manifest.items() if key not in ("kind", "apiVersion")}


def events_of(source) -> list:
    """All events of a recording, as seq, type, resource and object; every check of the reader passed."""
    with open_source(str(source)) as recording:
        return [(e.seq, e.t, e.type, e.resource, bytes(e.object)) for e in recording]


def folded(source) -> dict:
    """The cluster as a recording says that it is."""
    import msgspec

    state = State()
    with open_source(str(source)) as recording:
        for event in recording:
            state.apply(event)
    return {key: _plain(msgspec.json.decode(raw)) for key, raw in state.objects.items()}


class Recorder:
    """A `harness record` process; what it says is read as it comes."""

    def __init__(self, cluster: Cluster, *options: str) -> None:
        arguments = ["--kubeconfig", cluster.kubeconfig, "--status-every", "50ms", "--flush-every", "50ms", *options]
        command = [sys.executable, "-m", "harness", "record", *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=_environment(cluster))
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def said(self) -> str:
        return "".join(self.lines)

    @property
    def acknowledged(self) -> int:
        found = re.findall(r"acknowledged seq (\d+)", self.said)
        return int(found[-1]) if found else 0

    def until(self, condition, what: str) -> None:
        """Wait while it runs."""
        until(lambda: self._alive() and condition(), what + "\n" + self.said)

    def until_like(self, cluster: Cluster, source, resources=RESOURCES) -> None:
        """Wait until the recording holds the cluster's state."""
        self.until(lambda: Path(source).exists() and folded_or_none(source) == cluster.truth(resources), "the truth")

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.said, f"{text!r} said")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it; its exit code."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, once it ends."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def _alive(self) -> bool:
        assert self.process.poll() is None, self.said
        return True


def folded_or_none(source) -> dict | None:
    """None while the last line is only half there."""
    from harness.log import RecordingError

    try:
        return folded(source)
    except RecordingError:
        return None


def _environment(cluster: Cluster) -> dict[str, str]:
    import os

    return os.environ | {"XDG_STATE_HOME": str(cluster.folder / "state")}
