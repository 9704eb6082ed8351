"""The objectives of a fleet, each true, false or unknown, as those of a replay. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from harness.exit_codes import EXIT_DIGEST, EXIT_GATE, EXIT_UNVERIFIED
from harness.fleet.result import FleetResult, SampledNode
from harness.replay.objectives import JudgedObjective
from harness.replay.result import Objective, Verdict
from harness.wording import plural


class _Gate(NamedTuple):
    """A figure of the recording with an upper limit: in `unit`, of `samples`; `nothing` says why there is none."""

    name: str
    unit: str
    figure: Callable[[FleetResult], float | None]
    samples: Callable[[FleetResult], int]
    nothing: str


def _dead(result: FleetResult) -> float | None:
    found = result.columns[0].dead_endpoints.reachable_seconds
    return found["max"] if found else None


def _for_nothing(result: FleetResult) -> float | None:
    column = result.columns[0]
    return 100 * column.syncs_for_nothing / column.syncs if column.syncs else None


GATES = {
    "max_p99": _Gate(
        "--max-p99", " s", lambda result: (result.columns[0].convergence_seconds or {}).get("p99"),
        lambda result: len(result.changes), "no change reached a kernel",
    ),
    "max_dead": _Gate(
        "--max-dead", " s", _dead, lambda result: result.columns[0].dead_endpoints.count, "no endpoint died",
    ),
    "max_for_nothing": _Gate(
        "--max-for-nothing", " %", _for_nothing, lambda result: result.columns[0].syncs, "there was no sync",
    ),
}  # fmt: skip
"""Gates by the name of the option."""


def judged(result: FleetResult, limits: Mapping[str, float | None]) -> list[JudgedObjective]:
    """Verdicts on the sample, and on each figure with a limit."""
    found = [_digests(result.samples), *_kernels(result.samples)]
    return found + [_below(GATES[name], result, limit) for name, limit in limits.items() if limit is not None]


def _digests(samples: list[SampledNode]) -> JudgedObjective:
    name = "views equal replays"
    wrong = [each.node for each in samples if each.view_digest != each.replay_digest]
    if wrong:
        why = f"{plural(len(wrong), 'node')} with another digest than its own replay: {', '.join(wrong)}"
        return JudgedObjective(Objective(name, None, None, len(samples), verdict=False, why=why), EXIT_DIGEST)
    verdict: Verdict = True if samples else "unknown"
    why = "" if samples else "no node was sampled"
    return JudgedObjective(Objective(name, None, None, len(samples), verdict, why), EXIT_DIGEST)


def _kernels(samples: list[SampledNode]) -> list[JudgedObjective]:
    """One verdict on all nodes in real kernels, if there are any."""
    name, real = "the kernels do what the events say", [each for each in samples if each.kernel != "memory"]
    if not real:
        return []
    wrong = [each for each in real if each.verified is False]
    unknown = [each for each in real if each.verified == "unknown"]
    why = ", ".join(f"{each.node}: {plural(each.differences, 'difference')}" for each in wrong)
    why = why or ", ".join(f"{each.node}: not verified" for each in unknown)
    verdict: Verdict = False if wrong else "unknown" if unknown else True
    return [JudgedObjective(Objective(name, None, None, len(real), verdict, why), EXIT_UNVERIFIED)]


def _below(gate: _Gate, result: FleetResult, limit: float) -> JudgedObjective:
    figure, samples = gate.figure(result), gate.samples(result)
    asked = f"{gate.name} {limit:g}{gate.unit}"
    if figure is None:
        why = f"{asked}: {gate.nothing}"
        return JudgedObjective(Objective(gate.name, limit, None, samples, "unknown", why), EXIT_GATE)
    why = f"{asked} exceeded: {figure:.3f}{gate.unit}" if figure > limit else ""
    return JudgedObjective(Objective(gate.name, limit, figure, samples, figure <= limit, why), EXIT_GATE)
