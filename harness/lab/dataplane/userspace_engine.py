"""A lab node's proxy in mode userspace, which `proxy-engine` refuses as kube-proxy does: sockets, no rules.

    python -m harness.lab.userspace_engine --config=FILE --hostname-override=NODE

FILE is the KubeProxyConfiguration that any engine of a lab gets; of it are used: API, cluster CIDR, health address,
minSyncPeriod of the iptables block.  /healthz is as proxy-engine's; /account says what the proxy process holds, for
the lab's witness, which believes it only where the kernel's own sockets and addresses agree.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import msgspec

from engine.addresses import parse_network
from engine.backends.userspace.program import UserspaceProgram
from engine.config import ProxyConfig
from engine.kernel.userspace import UserspaceKernel
from engine.pacing import Pacer
from engine.proxier import Proxier, Sync, SyncError
from engine.server import http
from engine.server.api import Api, ApiError, load_configuration
from engine.server.configuration import KubeProxyConfiguration
from engine.server.decode import decode
from engine.server.health import Health, eligible
from engine.server.host import run
from engine.server.loop import Loop
from engine.server.node import node_ips
from engine.server.settings import periods
from engine.server.watching import ENDPOINTSLICES, SERVICES, Change, Follower, own_node
from harness.modes import userspace
from harness.modes.place import Place
from harness.namespace import start

FAMILY = 4
"""A lab has no other."""
ANSWER_SECONDS = 1.0


class Observer:
    """What the loop does, as far as health depends on it."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def changed(self, resource: str, change: Change) -> None:
        """As `loop.Observer`; nothing of it is told."""

    def queued(self) -> None:
        """An update waits."""
        self._health.queued()

    def started(self) -> None:
        """As `loop.Observer`; nothing of it is told."""

    def synced(self, sync: Sync, seconds: float) -> None:
        """The sockets are those of the last state."""
        self._health.updated((FAMILY,))

    def failed(self, error: SyncError, full: bool, seconds: float) -> None:
        """As `loop.Observer`; the loop has logged it and tries again."""

    def node(self, change: Change) -> None:
        """A Node that is going takes no more traffic (HC-09)."""
        if change.type != "DELETED":
            self._health.node_eligible = eligible(change.manifest)


class Account:
    """What the engine of a node at `address` says that its proxy holds, asked over HTTP."""

    def __init__(self, address: str, port: int) -> None:
        self._url = f"http://{address}:{port}/account"

    def everything(self, family: int) -> UserspaceProgram | None:
        """As `UserspaceKernel.everything`; OSError when it does not answer."""
        try:
            with urlopen(self._url, timeout=ANSWER_SECONDS) as answer:
                body = answer.read()
        except URLError as error:
            raise OSError(f"{self._url}: {error.reason}") from None
        return msgspec.json.decode(body, type=UserspaceProgram) if body and family == FAMILY else None


def serve(configuration: KubeProxyConfiguration, node: str) -> None:
    """Proxy until SIGTERM; ApiError when the API cannot be had at all."""
    place = Place("host", None, run, start)
    userspace.clean(place)  # of a proxy that was killed
    api = Api(load_configuration(configuration.client_connection.kubeconfig, ""))
    seen, ips = node_ips(api, node, "0.0.0.0")
    config = ProxyConfig(
        pod_networks=(parse_network(configuration.cluster_cidr),), node_addresses=(ips.addresses[FAMILY],)
    )
    timing, stop = periods(configuration), threading.Event()
    kernel = UserspaceKernel(start)
    proxier = Proxier("userspace", config, kernel, time.monotonic, node, families=(FAMILY,))
    health = Health(time.time, timing.sync_seconds, (FAMILY,))
    loop = Loop(proxier, Pacer(timing.min_sync_seconds, timing.sync_seconds), time.monotonic, Observer(health))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    if seen:
        loop.deliver("nodes", [Change("ADDED", seen.manifest)], False)
    host, _, port = configuration.healthz_bind_address.rpartition(":")
    http.Server(host, int(port), pages(loop, kernel, health))
    for resource in (SERVICES, ENDPOINTSLICES, own_node(node)):
        follower = Follower(api, resource, loop.deliver, stop)
        threading.Thread(target=follower.run, name=resource.name, daemon=True).start()
    try:
        loop.run()
    finally:
        kernel.close()


def pages(loop: Loop, kernel: UserspaceKernel, health: Health) -> http.Handler:
    """/healthz and /account; the kernel is asked by the loop's thread, as all that touches it."""

    def account() -> http.Answer:
        said: Future[UserspaceProgram | None] = Future()
        loop.put(lambda: said.set_result(kernel.everything(FAMILY)))
        program = said.result(ANSWER_SECONDS)
        return http.Answer(200, program.encoded() if program else b"", "application/json")

    def answer(path: str, query: str) -> http.Answer:
        if path == "/healthz":
            well = health.healthy()
            return http.Answer(200 if well else 503, b"ok" if well else b"not ok")
        return account() if path == "/account" else http.NOT_FOUND

    return answer


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A lab node's proxy in mode userspace.")
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--hostname-override", required=True, dest="node")
    arguments = parser.parse_args()
    try:
        serve(decode(arguments.config.read_bytes()).configuration, arguments.node)
    except ApiError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
