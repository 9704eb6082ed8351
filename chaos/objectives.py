"""The objectives of a run.  All are optional; only requested ones are evaluated."""

from __future__ import annotations

import msgspec


class FaultObjectives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For one kind of fault: requests lost because of it, and (least, most) seconds until readiness is lost."""

    max_lost_requests: int | None = None
    readiness_lost_seconds: tuple[float, float] | None = None


class Objectives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Objectives for a whole run.

    `error_budget_percent` and `max_lost_requests`: of all requests; `latency_p99_ms`: of the answered ones, from when
    each was due; `node_convergence_seconds`: from each change of the slices to each node's kernel;
    `failures_after_convergence`: requests lost to a fault more than `grace_seconds` after every kernel had followed it;
    `lost_outside_faults`: in no fault's time; `unaccounted_losses`: not made unavoidable by a fault;
    `losses_within_bounds`: the losses that each fault accounts for are within its computed bounds;
    `kernels_as_the_api_says`: every node's complete kernel state, before the first fault and after each;
    `engine_growth_mb`: growth of each engine's resident memory between its first and last sample; `engine_cpu_percent`:
    each engine's share of one CPU.  `faults`: by the fault's name.
    """

    error_budget_percent: float | None = None
    max_lost_requests: int | None = None
    latency_p99_ms: float | None = None
    node_convergence_seconds: float | None = None
    failures_after_convergence: int | None = None
    lost_outside_faults: int | None = None
    unaccounted_losses: int | None = None
    losses_within_bounds: bool = False
    kernels_as_the_api_says: bool = False
    engine_growth_mb: float | None = None
    engine_cpu_percent: float | None = None
    grace_seconds: float = 1.0
    faults: dict[str, FaultObjectives] = {}
