"""A lab node's proxy in mode userspace, which `proxy-engine` refuses as kube-proxy does: sockets, no rules.

    python -m harness.lab.dataplane.userspace_engine --config=FILE --hostname-override=NODE

FILE is the KubeProxyConfiguration of every engine in a lab, of which it uses the API, cluster CIDR, health address and
the minSyncPeriod of the iptables block.  /healthz answers like proxy-engine's; /account reports the proxy's state to
the lab's observer, which accepts it only if the kernel's sockets and addresses match.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from engine.addresses import parse_network
from engine.backends.userspace.program import UserspaceProgram
from engine.config import NEWEST, ProxyConfig
from engine.kernel.tools import run
from engine.kernel.userspace import UserspaceKernel
from engine.pacing import Pacer
from engine.proxier import Proxier, Sync
from engine.server.api.client import ApiClient, ApiError, load_configuration
from engine.server.api.node import node_ips
from engine.server.api.watching import Follower, ObjectChange, endpointslices, own_node, services
from engine.server.config.configuration import KubeProxyConfiguration
from engine.server.config.decode import decode
from engine.server.config.settings import periods
from engine.server.http import servers as http
from engine.server.http.health import Health, eligible
from engine.server.runtime.loop import Loop
from harness.lab.dataplane.account import ANSWER_SECONDS, FAMILY
from harness.modes import userspace
from harness.places.namespace import start
from harness.places.place import Place


class HealthObserver:
    """The state of the loop that health depends on."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def changed(self, resource: str, changes: list[ObjectChange]) -> None:
        """See `loop.LoopObserver`; ignored."""

    def queued(self) -> None:
        """An update is pending."""
        self._health.queued()

    def started(self, family: int) -> None:
        """See `loop.LoopObserver`; ignored."""

    def synced(self, family: int, sync: Sync, seconds: float) -> None:
        """The sockets match the last state."""
        self._health.updated((family,))

    def failed(self, family: int, error: Exception, full: bool, seconds: float) -> None:
        """See `loop.LoopObserver`; the loop has logged the error and retries."""

    def node(self, change: ObjectChange) -> None:
        """A deleted Node accepts no more traffic (HC-09)."""
        if change.type != "DELETED":
            self._health.node_eligible = eligible(change.manifest)


def serve(configuration: KubeProxyConfiguration, node: str) -> None:
    """Proxy until SIGTERM; ApiError if the API is not available at all."""
    place = Place("host", socket.socket, run, start)
    userspace.clean(place)  # left behind by a proxy that was killed
    api = ApiClient(load_configuration(configuration.client_connection.kubeconfig, ""))
    seen, ips = node_ips(api, node, "0.0.0.0", NEWEST)
    config = ProxyConfig(
        pod_networks=(parse_network(configuration.cluster_cidr),), node_addresses=(ips.addresses[FAMILY],)
    )
    timing, stop = periods(configuration), threading.Event()
    kernel = UserspaceKernel(start)
    proxier = Proxier("userspace", config, kernel, time.monotonic, node, families=(FAMILY,))
    health = Health(time.time, timing.sync_seconds, (FAMILY,))
    new_pacer = partial(Pacer, timing.min_sync_seconds, timing.sync_seconds)
    loop = Loop(proxier, new_pacer, time.monotonic, HealthObserver(health))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    if seen:
        loop.deliver("nodes", [ObjectChange("ADDED", seen.manifest)], False)
    host, _, port = configuration.healthz_bind_address.rpartition(":")
    http.HttpListener(host, int(port), pages(loop, kernel, health))
    for resource in (services(), endpointslices(), own_node(node)):
        follower = Follower(api, resource, loop.deliver, stop)
        threading.Thread(target=follower.run, name=resource.name, daemon=True).start()
    try:
        loop.run()
    finally:
        kernel.close()


def pages(loop: Loop, kernel: UserspaceKernel, health: Health) -> http.Handler:
    """/healthz and /account; only the loop's thread accesses the kernel."""

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
