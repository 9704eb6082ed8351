"""HTTP servers for health check node ports: whether this node has ready endpoints of a Service (HC-01 to HC-05a)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.model import ADDRESS_BYTES, Name
from engine.server.api.events import EventSender, Regarding
from engine.server.http.servers import Answer, HttpListener
from engine.server.runtime.logs import get_log
from engine.tracking import ClusterState

_log = get_log(__name__)


def local_ready(state: ClusterState, service: Name, family: int) -> int:
    """Number of distinct addresses of a family that are ready on this node, over all ports (EPS-11)."""
    return len(
        {
            endpoint.address
            for piece in state.slices.get(service, {}).values()
            if piece.family == family
            for endpoint in piece.endpoints
            if endpoint.ready and state.node_name and endpoint.node == state.node_name
        }
    )


class Check(NamedTuple):
    """A Service's check for one family, or for its first family (None)."""

    service: Name
    family: int | None


def wanted(state: ClusterState, families: tuple[int, ...], by_family: bool) -> dict[Check, tuple[int, int]]:
    """(port, local ready endpoints) of each check, for all Services with a health check node port.

    With `by_family`, each family in which the Service has a cluster IP has its own check (HC-05a); otherwise the
    Service has one check, for the first of these families.
    """
    found = {}
    for name in sorted(state.health_checked):
        service = state.services[name]
        sizes = {len(ip) for ip in service.cluster_ips}
        its = [family for family in families if ADDRESS_BYTES[family] in sizes]
        for family in its if by_family else its[:1]:
            check = Check(name, family if by_family else None)
            found[check] = (service.health_check_node_port, local_ready(state, name, family))
    return found


@dataclass
class _Checked:
    port: int
    addresses: tuple[str, ...]
    count: int = 0
    servers: list[HttpListener] = field(default_factory=list)


class ServiceHealth:
    """The servers as of the last sync. `addresses` returns the listen addresses of a family, or of all (None)."""

    def __init__(
        self,
        node: str,
        addresses: Callable[[int | None], tuple[str, ...]],
        recorder: EventSender,
        healthy: Callable[[], bool],
    ) -> None:
        self._node = node
        self._addresses = addresses
        self._recorder = recorder
        self._healthy = healthy
        self._checked: dict[Check, _Checked] = {}

    def sync(self, wanted: dict[Check, tuple[int, int]]) -> None:
        """Close obsolete servers, open new ones and those that failed before, then set the counts (HC-04)."""
        addresses = {family: self._addresses(family) for family in {check.family for check in wanted}}
        for check, checked in list(self._checked.items()):
            if check not in wanted or (wanted[check][0], addresses[check.family]) != (checked.port, checked.addresses):
                self._close(self._checked.pop(check))
        for check, (port, count) in wanted.items():
            if check not in self._checked:
                self._open(check, port, addresses[check.family])
            if check in self._checked:
                self._checked[check].count = count

    def close(self) -> None:
        """Close all."""
        for checked in self._checked.values():
            self._close(checked)
        self._checked.clear()

    def _open(self, check: Check, port: int, addresses: tuple[str, ...]) -> None:
        name, checked = check.service, _Checked(port, addresses)
        try:
            for address in addresses:
                checked.servers.append(
                    HttpListener(address, port, lambda *_: self._answer(name, checked), check.family)
                )
        except OSError as error:
            self._close(checked)
            note = f'node {self._node} failed to start healthcheck "{name}" on port {port}: {error.strerror}'
            about = Regarding("Service", name.name, name.namespace)
            self._recorder.event(about, "Warning", "FailedToStartServiceHealthcheck", "Listen", note)
            _log.error(error, "Failed to start healthcheck", node=self._node, service=name, port=port)
            return
        _log.info("Opened healthcheck", service=name, port=port)
        self._checked[check] = checked

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
