"""A sweep of minSyncPeriod over a recording: the cost and benefit of each value on one node, and the knee."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from harness.fleet.cost import fitted
from harness.fleet.knee import knee
from harness.fleet.result import Sweep, SweepPoint, SweepRecording
from harness.fleet.scenario import Scenario
from harness.fleet.share import share_of
from harness.fleet.stage import NS, FleetSettings, staged
from harness.fleet.tape import Tape
from harness.fleet.view import NO_SYNC, view
from harness.garbage import uncollected
from harness.replay.kernels import open_kernel


def cpu_seconds() -> float:
    """Processor time of this process and its finished children, in user space and in the kernel."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def swept(
    tape: Tape, settings: FleetSettings, node: str, kernel: str, periods: Sequence[int], progress: Callable[[int], None]
) -> list[SweepPoint]:
    """One point per period (ns), in ascending order, with the knee marked; `kernel` as in a replay.

    KernelUnavailable and KernelError as there; ValueError if no change reached the kernel.
    """
    points = []
    for number, period in enumerate(sorted(set(periods))):
        progress(number)
        points.append(_point(tape, settings, node, kernel, period))
    here = knee([(point.p99_seconds, point.cpu_seconds) for point in points])
    return [msgspec.structs.replace(point, knee=number == here) for number, point in enumerate(points)]


def _point(tape: Tape, settings: FleetSettings, node: str, kernel: str, period: int) -> SweepPoint:
    stage = staged(tape, Scenario("", period), settings)
    with uncollected(), open_kernel(kernel, settings.mode) as target:
        seen = view(stage, node, cpu_seconds, target.kernel)
    ran = [n for n, operations in enumerate(seen.operations) if n and operations != NO_SYNC]
    seconds = [seen.seconds[n] for n in ran]
    cost = fitted([seen.operations[n] for n in ran], seconds)
    [found] = share_of(replace(stage, cost=cost), [seen]).nodes
    late = found.convergence
    if late is None:
        raise ValueError(f"no change of this recording reaches the kernel of {node}: there is nothing to tune")
    return SweepPoint(
        period / NS,
        found.syncs,
        found.for_nothing,
        found.operations,
        sum(seconds),
        late["p50"],
        late["p99"],
        late["max"],
    )


def sweep(source: str, tape: Tape, settings: FleetSettings, node: str, kernel: str, points: list[SweepPoint]) -> Sweep:
    """The result; `source` as given."""
    times = [change.event.t for change in tape.changes]
    recording = SweepRecording(source, tape.sha256, (times[-1] - times[0]) / NS if times else 0.0)
    method = "Kneedle (Satopaa et al., 2011) on p99 and CPU time"
    return Sweep(recording, settings.mode, node, kernel, method, points)
