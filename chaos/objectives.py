"""What a run must keep to.  Everything is optional; what is not asked for is not judged."""

from __future__ import annotations

import msgspec


class FaultObjectives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For one kind of fault: requests lost because of it, and (least, most) seconds until readiness is lost."""

    max_lost_requests: int | None = None
    readiness_lost_seconds: tuple[float, float] | None = None


class Objectives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For a run.

    `error_budget_percent` and `max_lost_requests` of all requests; `latency_p99_ms` of the answered ones, from the
    intended time of sending; `node_convergence_seconds` from each change of the slices to each node's kernel;
    `failures_after_convergence`: requests lost to a fault more than `grace_seconds` after every kernel had followed
    it.  `faults` by the fault's name.
    """

    error_budget_percent: float | None = None
    max_lost_requests: int | None = None
    latency_p99_ms: float | None = None
    node_convergence_seconds: float | None = None
    failures_after_convergence: int | None = None
    grace_seconds: float = 1.0
    faults: dict[str, FaultObjectives] = {}
