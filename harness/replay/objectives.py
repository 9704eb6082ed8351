"""The objectives of a run, each true, false or unknown, and the resulting exit code. Pure.

Unknown is a verdict: a figure without samples meets no limit, and a figure of unverified rules says nothing about a
proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from harness.exit_codes import EXIT_DIGEST, EXIT_GATE, EXIT_UNKNOWN, EXIT_UNVERIFIED
from harness.replay.result import Objective, Percentiles, ReplayResult, Verdict
from harness.wording import plural


class JudgedObjective(NamedTuple):
    """An objective, and the exit code if it is false."""

    objective: Objective
    code: int


class _Gate(NamedTuple):
    """A figure with an upper limit: how it and its number of samples are computed from a result."""

    name: str
    figure: Callable[[ReplayResult], float | None]
    samples: Callable[[ReplayResult], int]
    nothing: str


def _p99(summary: Percentiles | None) -> float | None:
    return summary["p99"] if summary else None


def _changes(result: ReplayResult) -> int:
    return result.change.count


GATES = {
    "max_p99": _Gate(
        "--max-p99", lambda r: _p99(r.change.convergence_seconds), _changes, "no change reached the kernel"
    ),
    "max_work_p99": _Gate(
        "--max-work-p99", lambda r: _p99(r.change.work_seconds), _changes, "no change reached the kernel"
    ),
    "max_gap": _Gate(
        "--max-gap",
        lambda r: r.between_syncs.longest_gap_seconds,
        lambda r: r.between_syncs.connections,
        "no connections were attempted during syncs",
    ),
    "max_initial": _Gate(
        "--max-initial",
        lambda r: r.initial.seconds if r.recording.services else None,
        lambda r: int(r.recording.services > 0),
        "the initial list has no Services",
    ),
}
"""Gates by the name of the option."""


def judge(
    results: Sequence[ReplayResult], limits: Mapping[str, float | None], digest: str | None
) -> list[JudgedObjective]:
    """Verdicts over all runs: verification, digests, and each figure with a limit."""
    found = [_agreement(results), _digests(results, digest)]
    unseen = found[0].objective.verdict == "unknown"
    for option, limit in limits.items():
        if limit is not None:
            found.append(_below(GATES[option], results, limit, unseen))
    return found


def exit_code(found: Sequence[JudgedObjective], asked: bool) -> int:
    """The code of the first false objective, else that of unknown ones if a verdict was `asked` for."""
    false = [each.code for each in found if each.objective.verdict is False]
    if false:
        return false[0]
    return EXIT_UNKNOWN if asked and any(each.objective.verdict == "unknown" for each in found) else 0


def _agreement(results: Sequence[ReplayResult]) -> JudgedObjective:
    name = "the kernel does what the events say"
    checks = sum(result.checks for result in results)
    verdict: Verdict
    if any(result.verified is False for result in results):
        count = sum(len(result.differences) for result in results)
        verdict, why = False, plural(count, "difference")
    else:
        why = next((why for why in map(_unverified, results) if why), "")
        verdict = "unknown" if why else True
    return JudgedObjective(Objective(name, None, None, checks, verdict, why), EXIT_UNVERIFIED)


def _unverified(result: ReplayResult) -> str:
    return "" if result.verified is True else result.verification.unknown_because


def _digests(results: Sequence[ReplayResult], expected: str | None) -> JudgedObjective:
    found = sorted({result.digest for result in results})
    fine = len(found) == 1 and expected in (None, found[0])
    why = "" if fine else f"digest {', '.join(found)}, expected {expected or 'one'}"
    return JudgedObjective(Objective("digest", expected, ", ".join(found), len(results), fine, why), EXIT_DIGEST)


def _below(gate: _Gate, results: Sequence[ReplayResult], limit: float, unseen: bool) -> JudgedObjective:
    figures = [gate.figure(result) for result in results]
    samples = sum(gate.samples(result) for result in results)
    measured = [figure for figure in figures if figure is not None]
    worst = max(measured, default=None)
    verdict: Verdict
    if worst is not None and worst > limit:
        verdict, why = False, f"{gate.name} {limit:g} s exceeded: {worst:.3f} s"
    elif len(measured) < len(figures):
        verdict, why = "unknown", f"{gate.name} {limit:g} s: {gate.nothing}"
    elif unseen:
        verdict, why = "unknown", f"{gate.name} {limit:g} s: the rules were not verified"
    else:
        verdict, why = True, ""
    return JudgedObjective(Objective(gate.name, limit, worst, samples, verdict, why), EXIT_GATE)
