"""What others get to know of a sync: health, metrics, service health servers, log. Called from the loop's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from engine.proxier import Proxier, Sync, SyncError
from engine.server.health import Health, eligible
from engine.server.logs import get_log
from engine.server.metrics import Metrics
from engine.server.service_health import ServiceHealth, wanted
from engine.server.watching import Change

_log = get_log(__name__)


class Reporter:
    """`loop.Observer` for the daemon; `on_node` is told each manifest of the own Node."""

    def __init__(
        self,
        proxier: Proxier,
        health: Health,
        metrics: Metrics,
        service_health: ServiceHealth,
        mode: str,
        on_node: Callable[[bytes], None],
        started_at: float,
    ) -> None:
        self._proxier = proxier
        self._families = tuple(proxier.dataplanes)
        self._health = health
        self._metrics = metrics
        self._service_health = service_health
        self._by_service = mode == "ipvs"
        self._on_node = on_node
        self._started_at = started_at
        self._triggers: list[float] = []
        self._carried: list[float] = []
        self._syncs = 0

    def changed(self, resource: str, change: Change) -> None:
        """Counted, and when whoever triggered it did so (EPS-10)."""
        self._metrics.changed(resource)
        if resource == "endpointslices" and change.type != "DELETED" and change.trigger:
            at = _trigger(change.trigger)
            if at and at > self._started_at:
                self._triggers.append(at)

    def queued(self) -> None:
        """An update waits."""
        self._health.queued()
        self._metrics.queued(time.time())

    def node(self, change: Change) -> None:
        """The own Node; a deletion says nothing new about it (HC-09)."""
        if change.type != "DELETED":
            self._health.node_eligible = eligible(change.manifest)
            self._on_node(change.manifest)

    def started(self) -> None:
        """What was triggered so far goes with this sync."""
        self._carried += self._triggers
        self._triggers.clear()

    def synced(self, sync: Sync, seconds: float) -> None:
        """In the order of SYNC-09."""
        now = time.time()
        families = self._families
        self._metrics.attempted(dict.fromkeys(families, seconds), sync.full)
        self._metrics.programmed(families, [now - at for at in self._carried])
        self._carried.clear()
        for family in families:
            self._metrics.without_local(
                family, self._proxier.dataplanes[family].without_local_endpoints(self._by_service)
            )
        self._health.updated(families)
        self._metrics.succeeded(families, now)
        self._service_health.sync(wanted(self._proxier.state, families))
        self._syncs += 1
        _log.info(
            "Synced proxy rules",
            v=0 if self._syncs == 1 else 2,
            full=sync.full,
            seconds=round(seconds, 6),
            compute_seconds=round(sync.compute_seconds, 6),
            apply_seconds=round(sync.apply_seconds, 6),
            operations=sync.operations,
            services=len(self._proxier.state.services),
        )

    def failed(self, error: SyncError, seconds: float) -> None:
        """Only families that were not refused are up to date."""
        self._metrics.attempted(dict.fromkeys(self._families, seconds), full=False)
        self._metrics.failed(error.refused, full=False)
        self._health.updated(family for family in self._families if family not in error.refused)


def _trigger(text: str) -> float | None:
    """An RFC 3339 time in seconds since 1970, None for a bad one, which is logged."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        _log.error(error, "Error while parsing EndpointsLastChangeTriggerTime annotation")
        return None
