"""One HTTP server a Service with a health check node port: does this node have ready endpoints (HC-01 to HC-05)?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.model import ADDRESS_BYTES, Name
from engine.server.events import Recorder, Regarding
from engine.server.http import Answer, Server
from engine.server.logs import get_log
from engine.tracking import ClusterState

_log = get_log(__name__)


def local_ready(state: ClusterState, service: Name, family: int) -> int:
    """Distinct addresses of a family that are ready on this node, over all ports (EPS-11)."""
    return len(
        {
            endpoint.address
            for piece in state.slices.get(service, {}).values()
            if piece.family == family
            for endpoint in piece.endpoints
            if endpoint.ready and state.node_name and endpoint.node == state.node_name
        }
    )


def wanted(state: ClusterState, families: tuple[int, ...]) -> dict[Name, tuple[int, int]]:
    """(port, local ready endpoints) of each Service that has such a port.

    The endpoints are those of the first family that the Service has a cluster IP of: a node has one
    answer a port.
    """
    found = {}
    for name in sorted(state.health_checked):
        service = state.services[name]
        sizes = {len(ip) for ip in service.cluster_ips}
        family = next((f for f in families if ADDRESS_BYTES[f] in sizes), None)
        if family:
            found[name] = (service.health_check_node_port, local_ready(state, name, family))
    return found


@dataclass
class _Checked:
    port: int
    count: int = 0
    servers: list[Server] = field(default_factory=list)


class ServiceHealth:
    """The servers as of the last sync. `addresses` are listened on, "" being all."""

    def __init__(self, node: str, addresses: tuple[str, ...], recorder: Recorder, healthy: Callable[[], bool]) -> None:
        self._node = node
        self._addresses = addresses
        self._recorder = recorder
        self._healthy = healthy
        self._checked: dict[Name, _Checked] = {}

    def sync(self, wanted: dict[Name, tuple[int, int]]) -> None:
        """Close what is no longer wanted, open what is new or failed before, then set the counts (HC-04)."""
        for name, checked in list(self._checked.items()):
            if wanted.get(name, (0,))[0] != checked.port:
                self._close(self._checked.pop(name))
        for name, (port, count) in wanted.items():
            if name not in self._checked:
                self._open(name, port)
            if name in self._checked:
                self._checked[name].count = count

    def close(self) -> None:
        """Close all."""
        self.sync({})

    def _open(self, name: Name, port: int) -> None:
        checked = _Checked(port)
        try:
            for address in self._addresses:
                checked.servers.append(Server(address, port, lambda *_: self._answer(name, checked)))
        except OSError as error:
            self._close(checked)
            note = f'node {self._node} failed to start healthcheck "{name}" on port {port}: {error.strerror}'
            about = Regarding("Service", name.name, name.namespace)
            self._recorder.event(about, "Warning", "FailedToStartServiceHealthcheck", "Listen", note)
            _log.error(error, "Failed to start healthcheck", node=self._node, service=name, port=port)
            return
        _log.info("Opened healthcheck", service=name, port=port)
        self._checked[name] = checked

    def _close(self, checked: _Checked) -> None:
        for server in checked.servers:
            server.close()

    def _answer(self, name: Name, checked: _Checked) -> Answer:
        count, healthy = checked.count, self._healthy()
        body = {
            "service": {"namespace": name.namespace, "name": name.name},
            "localEndpoints": count,
            "serviceProxyHealthy": healthy,
        }
        headers = (("X-Content-Type-Options", "nosniff"), ("X-Load-Balancing-Endpoint-Weight", str(count)))
        status = 200 if count and healthy else 503
        return Answer(status, json.dumps(body, indent="\t").encode(), "application/json", headers)
