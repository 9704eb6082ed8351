"""Reports syncs to health, metrics, service health servers and the log.  Called from the loop's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from engine.backends.iptables.program import IptablesProgram
from engine.manifest import ManifestError
from engine.model import Name
from engine.modes import Mode
from engine.proxier import Proxier, Sync
from engine.server.api.events import EventSender, Regarding
from engine.server.api.watching import ObjectChange
from engine.server.http.health import Health, eligible
from engine.server.http.metrics import IP_FAMILY, Metrics
from engine.server.http.service_health import ServiceHealth, wanted
from engine.server.runtime import localhost_ports
from engine.server.runtime.localhost_ports import LocalhostPorts
from engine.server.runtime.logs import get_log
from engine.server.runtime.milestones import Milestones

HEALTH_BY_FAMILY_SINCE = (1, 36)
"""Since this version each family has its own health check node port servers (HC-05a)."""

_log = get_log(__name__)


class Reporter:
    """`loop.LoopObserver` for the daemon; `on_node` is called for each change of this node's Node object."""

    def __init__(
        self,
        proxier: Proxier,
        health: Health,
        metrics: Metrics,
        service_health: ServiceHealth,
        mode: Mode,
        on_node: Callable[[ObjectChange], None],
        milestones: Milestones,
        recorder: EventSender,
        localhost_ports: Mapping[int, LocalhostPorts],
    ) -> None:
        self._proxier = proxier
        self._localhost_ports = localhost_ports
        self._recorder = recorder
        self._families = tuple(proxier.dataplanes)
        self._health = health
        self._metrics = metrics
        self._service_health = service_health
        self._by_service = mode.counts_services
        self._on_node = on_node
        self._started_at = time.time()
        self._milestones = milestones
        self._triggers: dict[int, list[float]] = {family: [] for family in self._families}
        self._carried: dict[int, list[float]] = {family: [] for family in self._families}
        self._degraded: dict[int, dict[Name, str]] = {family: {} for family in self._families}
        self._synced: set[int] = set()
        self._began = False

    def changed(self, resource: str, changes: list[ObjectChange]) -> None:
        """Count the changes, and keep their trigger times (EPS-10)."""
        self._metrics.changed(resource, len(changes))
        for change in changes if resource == "endpointslices" else ():
            if change.type != "DELETED" and change.trigger:
                at = _trigger(change.trigger)
                if at and at > self._started_at:
                    for waiting in self._triggers.values():
                        waiting.append(at)

    def queued(self) -> None:
        """A sync was queued."""
        self._health.queued()
        self._metrics.queued(time.time())

    def node(self, change: ObjectChange) -> None:
        """This node's Node object changed; a deletion does not change its eligibility for traffic (HC-09)."""
        try:
            if change.type != "DELETED":
                self._health.node_eligible = eligible(change.manifest)
            self._on_node(change)
        except (msgspec.DecodeError, ManifestError) as error:
            _log.error(error, "Ignored an invalid Node")

    def started(self, family: int) -> None:
        """Assign all pending trigger times to this sync."""
        if not self._began:
            self._began = True
            self._milestones.mark("list_and_decode")
        self._metrics.taken()
        self._carried[family] += self._triggers[family]
        self._triggers[family].clear()

    def synced(self, family: int, sync: Sync, seconds: float) -> None:
        """Report a success, in the order of SYNC-09."""
        now = time.time()
        self._metrics.attempted(family, seconds, sync.full)
        self._metrics.programmed(family, [now - at for at in self._carried[family]])
        self._carried[family].clear()
        self._metrics.without_local(family, self._proxier.dataplanes[family].without_local_endpoints(self._by_service))
        for program in sync.programs:
            if isinstance(program, IptablesProgram):
                self._metrics.rules(program.family, program.rules_total, program.rules_last)
        self._health.updated((family,))
        self._metrics.succeeded(family, now)
        by_family = self._proxier.config.version >= HEALTH_BY_FAMILY_SINCE
        self._service_health.sync(wanted(self._proxier.state, self._families, by_family))
        if family in self._localhost_ports:
            ports = self._localhost_ports[family]
            failures = ports.sync(localhost_ports.wanted(self._proxier.dataplanes[family].plans.values()))
            self._metrics.localhost(family, ports.listeners, failures)
        self._metrics.conntrack(family, sync.conntrack_seconds, sync.conntrack_removed)
        self._report_degraded(family)
        first = family not in self._synced
        self._synced.add(family)
        if first and len(self._synced) == len(self._families):
            self._milestones.mark("first_sync")
            seconds_of: dict[str, Any] = {f"{what}_seconds": n for what, n in self._milestones.seconds.items()}
            _log.info("Started", **seconds_of)
        _log.info(
            "Synced proxy rules",
            v=0 if first else 2 if sync.programs else 4,
            ipFamily=IP_FAMILY[family],
            full=sync.full,
            seconds=round(seconds, 6),
            compute_seconds=round(sync.compute_seconds, 6),
            apply_seconds=round(sync.apply_seconds, 6),
            operations=sync.operations,
            services=len(self._proxier.state.services),
        )

    def failed(self, family: int, error: Exception, full: bool, seconds: float) -> None:
        """Report a failure of this family."""
        self._metrics.attempted(family, seconds, full)
        self._metrics.failed(family, full)
        self._report_degraded(family)

    def _report_degraded(self, family: int) -> None:
        """Count degraded Services, and report new ones by log and Event."""
        before, now = self._degraded[family], self._proxier.degraded(family)
        for service, what in now.items():
            if before.get(service) != what:
                _log.error(None, "Service is not programmed as specified", service=service, ipFamily=IP_FAMILY[family],
                           what=what)  # fmt: skip
                about = Regarding("Service", service.name, service.namespace)
                self._recorder.event(about, "Warning", "ServiceDegraded", "Sync", f"{IP_FAMILY[family]}: {what}")
        self._degraded[family] = now
        self._metrics.degraded(family, len(now))


def _trigger(text: str) -> float | None:
    """An RFC 3339 time in seconds since 1970; None if invalid, which is logged."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        _log.error(error, "Error while parsing EndpointsLastChangeTriggerTime annotation")
        return None
