"""A small cluster for `--target kube`: the live API of `harness serve`, controllers, and a front for the rest.

The front adds what an API server has around its store: rights (SelfSubjectAccessReview, 403), disruption budgets
(429), a Deployment's scale, and exec into containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from harness.apiserver import LiveApi, StatusError

NAMESPACE, OTHER, SERVICE, DEPLOYMENT = "shop", "pay", "web", "web"
GATE = "example.com/chaos"
NODES = ("node-1", "node-2", "node-3")


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers requests to the Service's node port on every node."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Controllers(threading.Thread):
    """Kubelets, the Deployment and the EndpointSlice controller, in one loop over all objects."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster, self._store, self._number = cluster, cluster.store, 0
        self._dying: dict[str, float] = {}
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.wait(0.03):
            with contextlib.suppress(StatusError):  # somebody else was quicker; looked at again
                self.look()

    def look(self) -> None:
        """One round."""
        pods = self._store.list("pods", NAMESPACE)
        self._end(pods + self._store.list("pods", OTHER))
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and _ours(pod)]
        wanted = self._store.get("deployments", DEPLOYMENT, NAMESPACE)["spec"]["replicas"]
        for _ in range(wanted - len(alive)):
            self._create()
        for pod in alive[wanted:] if wanted < len(alive) else ():
            self._store.delete("pods", pod["metadata"]["name"], NAMESPACE)
        for pod in alive:
            self._probe(pod)
        self._slice()

    def _end(self, pods: list[dict[str, Any]]) -> None:
        """A kubelet deletes the Pod object once the pod's processes have ended."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"] and time.monotonic() > self._dying.setdefault(
                name, time.monotonic() + self._cluster.draining_seconds
            ):
                self._store.delete("pods", name, pod["metadata"]["namespace"], grace_seconds=0)

    def _create(self) -> None:
        nodes = [n["metadata"]["name"] for n in self._store.list("nodes") if not n["spec"].get("unschedulable")]
        self._number += 1
        self._store.apply("pods", pod_manifest(f"web-{self._number}", nodes[self._number % len(nodes)]))

    def _probe(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        gates = [c["status"] for c in pod["status"]["conditions"] if c["type"] == GATE]
        ready = "True" if name not in self._cluster.unready and "False" not in gates else "False"
        others = [c for c in pod["status"]["conditions"] if c["type"] != "Ready"]
        conditions = [*others, {"type": "Ready", "status": ready}]
        if (
            conditions != pod["status"]["conditions"]
            and {"type": "Ready", "status": ready} not in pod["status"]["conditions"]
        ):
            self._store.update("pods", pod | {"status": pod["status"] | {"conditions": conditions}}, "status")

    def _slice(self) -> None:
        pods = [pod for pod in self._store.list("pods", NAMESPACE) if _ours(pod)]
        self._store.apply("endpointslices", slice_manifest(pods))


def _ours(pod: dict[str, Any]) -> bool:
    return pod["metadata"]["labels"].get("app") == "web"


def is_ready(pod: dict[str, Any]) -> bool:
    return {"type": "Ready", "status": "True"} in pod["status"]["conditions"]


def pod_manifest(name: str, node: str, namespace: str = NAMESPACE, owner: str = "ReplicaSet") -> dict[str, Any]:
    """A pod that runs and is ready; `owner` is the kind of its controller."""
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app": "web" if namespace == NAMESPACE and owner == "ReplicaSet" else "other"},
            "ownerReferences": [{"kind": owner, "name": f"{DEPLOYMENT}-5d8", "controller": True}],
        },
        "spec": {"nodeName": node, "readinessGates": [{"conditionType": GATE}], "containers": [{"name": "web"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.1.0.1",
            "conditions": [{"type": GATE, "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "web", "restartCount": 0, "state": {"running": {}}}],
        },
    }


def slice_manifest(pods: list[dict[str, Any]]) -> dict[str, Any]:
    """The Service's only EndpointSlice."""
    endpoints = [
        {
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": is_ready(pod) and "deletionTimestamp" not in pod["metadata"]},
            "nodeName": pod["spec"]["nodeName"],
            "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": NAMESPACE},
        }
        for pod in pods
    ]
    return {
        "metadata": {
            "name": "web-1",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": SERVICE},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


class Cluster:
    """A context manager. `denied` are words of rights (`create pods/eviction`), `budget` how often 429 is said."""

    def __init__(self, folder: Path, pods: int = 6) -> None:
        self.folder, self.pods = folder, pods
        self.denied: set[str] = set()
        self.reviews = True
        self.budget = 0
        self.draining_seconds = 0.1
        self.unready: set[str] = set()
        self.commands: list[tuple[str, str]] = []
        self.asked: list[tuple[str, str]] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Cluster:
        self.api = self._stack.enter_context(LiveApi())
        self.store = self.api.store
        self.port = self._serve_nodeports()
        self._fill()
        self._controllers = Controllers(self)
        self._controllers.look()
        self._controllers.start()
        self._stack.callback(lambda: (self._controllers.ending.set(), self._controllers.join(10)))
        self._stack.callback(self.api.disconnect)
        self.url = self._stack.enter_context(front(self))
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(kubeconfig(self.url)))
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def _serve_nodeports(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for number, _ in enumerate(NODES, 1):
            server = http.server.ThreadingHTTPServer((f"127.0.0.{number}", port), Answers)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self._stack.callback(lambda server=server: (server.shutdown(), server.server_close()))
        return port

    def _fill(self) -> None:
        for number, name in enumerate(NODES, 1):
            status = {
                "addresses": [{"type": "InternalIP", "address": f"127.0.0.{number}"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            self.store.apply("nodes", {"metadata": {"name": name}, "spec": {}, "status": status})
        ports = [{"name": "http", "port": 80, "nodePort": self.port, "protocol": "TCP"}]
        spec = {"type": "NodePort", "clusterIP": "10.96.0.10", "selector": {"app": "web"}, "ports": ports}
        self.store.apply("services", {"metadata": {"name": SERVICE, "namespace": NAMESPACE}, "spec": spec})
        deployment = {"metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE}, "spec": {"replicas": self.pods}}
        self.store.apply("deployments", deployment)
        for node in NODES:
            self.store.apply("pods", pod_manifest(f"till-{node}", node, OTHER))
            self.store.apply("pods", pod_manifest(f"agent-{node}", node, OTHER, "DaemonSet"))

    def names(self) -> set[str]:
        """The Service's pods that are not terminating."""
        pods = [pod for pod in self.store.list("pods", NAMESPACE) if "deletionTimestamp" not in pod["metadata"]]
        return {pod["metadata"]["name"] for pod in pods}

    def unschedulable(self) -> list[str]:
        """Cordoned nodes."""
        return [n["metadata"]["name"] for n in self.store.list("nodes") if n["spec"].get("unschedulable")]

    def replicas(self) -> int:
        """The Deployment's desired number of replicas."""
        return self.store.get("deployments", DEPLOYMENT, NAMESPACE)["spec"]["replicas"]

    def gates(self) -> set[str]:
        """All values of the pods' gate."""
        pods = self.store.list("pods", NAMESPACE)
        return {c["status"] for pod in pods for c in pod["status"]["conditions"] if c["type"] == GATE}

    def revisions(self) -> dict[str, int]:
        """The revision of every collection, which any change of an object increases."""
        return {name: found.revision for name, found in self.store.collections.items()}

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Requests that change something; access reviews do not."""
        return [ask for ask in self.asked if ask[0] != "GET" and "selfsubjectaccessreviews" not in ask[1]]


def kubeconfig(url: str) -> dict[str, Any]:
    """With one context, `staging`."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "staging",
        "clusters": [{"name": "staging", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "staging", "context": {"cluster": "staging", "user": "me"}}],
    }


@contextlib.contextmanager
def front(cluster: Cluster):
    """Serves in a thread; its URL."""
    loop, ready, ending = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    where: list[str] = []

    async def serve() -> None:
        made = Front(cluster)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", made.handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        where.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        async with aiohttp.ClientSession(auto_decompress=False) as made.client:
            ready.set()
            await ending.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield where[0]
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(10)


class Front:
    """Answers requests that the store does not support, and forwards the others."""

    client: aiohttp.ClientSession

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def handle(self, request: web.Request) -> web.StreamResponse:
        cluster, path = self._cluster, request.path
        cluster.asked.append((request.method, path))
        if path.endswith("/selfsubjectaccessreviews"):
            return await self._review(request) if cluster.reviews else _status(404, "no such resource")
        if _right(request.method, path) in cluster.denied:
            return _status(403, f"{_right(request.method, path)} is forbidden")
        if path.endswith("/eviction") and cluster.budget > 0:
            cluster.budget -= 1
            return _status(429, "Cannot evict pod as it would violate the pod's disruption budget.")
        if path.endswith("/scale"):
            return await self._scale(request)
        if path.endswith("/exec"):
            return await self._exec(request)
        return await self._pass_on(request)

    async def _review(self, request: web.Request) -> web.Response:
        wanted = (await request.json())["spec"]["resourceAttributes"]
        resource = wanted["resource"] + (f"/{wanted['subresource']}" if "subresource" in wanted else "")
        return web.json_response({"status": {"allowed": f"{wanted['verb']} {resource}" not in self._cluster.denied}})

    async def _scale(self, request: web.Request) -> web.Response:
        store, name = self._cluster.store, request.path.split("/")[-2]
        if request.method == "PATCH":
            replicas = (await request.json())["spec"]["replicas"]
            store.patch("deployments", name, NAMESPACE, lambda old: old | {"spec": {"replicas": replicas}})
        try:
            return web.json_response({"kind": "Scale", "spec": store.get("deployments", name, NAMESPACE)["spec"]})
        except StatusError:
            return _status(404, f"deployments {name!r} not found")

    async def _exec(self, request: web.Request) -> web.WebSocketResponse:
        """v4.channel.k8s.io: the command's outcome is a Status on channel 3."""
        pod, (verb, *_) = request.path.split("/")[-2], request.query.getall("command")
        socket_ = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket_.prepare(request)
        self._cluster.commands.append((pod, verb))
        known = {"fail": self._cluster.unready.add, "pass": self._cluster.unready.discard, "kill": self._kill}
        done = {"status": "Success"}
        if verb in known:
            known[verb](pod)
        else:
            cause = {"reason": "ExitCode", "message": "127"}
            done = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
            await socket_.send_bytes(b"\x02not found")
        await socket_.send_bytes(b"\x03" + json.dumps(done).encode())
        await socket_.close()
        return socket_

    def _kill(self, pod: str) -> None:
        """Its kubelet restarts the container before anything reads its state."""
        now = self._cluster.store.get("pods", pod, NAMESPACE)
        count = now["status"]["containerStatuses"][0]["restartCount"] + 1
        containers = [{"name": "web", "restartCount": count, "state": {"running": {}}}]
        self._cluster.store.update(
            "pods", now | {"status": now["status"] | {"containerStatuses": containers}}, "status"
        )

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {key: value for key, value in request.headers.items() if key not in ("Host", "Content-Length")}
        url = f"{self._cluster.api.url}{request.path_qs}"
        async with self.client.request(request.method, url, headers=headers, data=await request.read()) as answer:
            passed = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
            await passed.prepare(request)
            async for chunk in answer.content.iter_any():
                await passed.write(chunk)
            await passed.write_eof()
            return passed


def _right(method: str, path: str) -> str:
    """The permission that a request needs, among those that runs use."""
    verb = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]
    found = re.search(r"/(?:namespaces/[\w-]+/)?(pods|nodes|deployments)/[\w-]+(/\w+)?$", path)
    if found is None:
        return ""
    return f"{'create' if found[2] == '/exec' else verb} {found[1]}{found[2] or ''}"


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "message": message, "code": code}, status=code)
