"""What others get to know of a sync: health, metrics, service health servers, log. Called from the loop's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import msgspec

from engine.backends.iptables.program import IptablesProgram
from engine.manifest import ManifestError
from engine.proxier import Proxier, Sync, SyncError
from engine.server.health import Health, eligible
from engine.server.logs import get_log
from engine.server.metrics import Metrics
from engine.server.milestones import Milestones
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
        milestones: Milestones,
    ) -> None:
        self._proxier = proxier
        self._families = tuple(proxier.dataplanes)
        self._health = health
        self._metrics = metrics
        self._service_health = service_health
        self._by_service = mode == "ipvs"
        self._on_node = on_node
        self._started_at = time.time()
        self._milestones = milestones
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
        if change.type == "DELETED":
            return
        try:
            self._health.node_eligible = eligible(change.manifest)
            self._on_node(change.manifest)
        except (msgspec.DecodeError, ManifestError) as error:
            _log.error(error, "Ignored a Node that makes no sense")

    def started(self) -> None:
        """What was triggered so far goes with this sync."""
        if not self._syncs:
            self._milestones.mark("list_and_decode")
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
        for program in sync.programs:
            if isinstance(program, IptablesProgram):
                self._metrics.rules(program.family, program.rules_total, program.rules_last)
        self._health.updated(families)
        self._metrics.succeeded(families, now)
        self._service_health.sync(wanted(self._proxier.state, families))
        self._metrics.conntrack(families, sync.conntrack_seconds, sync.removed_by_family)
        self._syncs += 1
        if self._syncs == 1:
            self._milestones.mark("first_sync")
            _log.info("Started", **{f"{what}_seconds": took for what, took in self._milestones.seconds.items()})
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

    def failed(self, error: SyncError, full: bool, seconds: float) -> None:
        """Only families that were not refused are up to date."""
        self._metrics.attempted(dict.fromkeys(self._families, seconds), full)
        self._metrics.failed(error.refused, full)
        self._health.updated(family for family in self._families if family not in error.refused)


def _trigger(text: str) -> float | None:
    """An RFC 3339 time in seconds since 1970, None for a bad one, which is logged."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        _log.error(error, "Error while parsing EndpointsLastChangeTriggerTime annotation")
        return None
