"""The objectives of a run, each true, false or unknown, and the resulting exit code. Pure.

Unknown is a verdict: a figure without samples meets no limit, and a figure of unverified rules says nothing about a
proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.wording import plural

EXIT_DIGEST, EXIT_GATE, EXIT_UNVERIFIED, EXIT_UNKNOWN = 3, 4, 5, 6

Result = Mapping[str, Any]


class Objective(NamedTuple):
    """`verdict` None is unknown; `figure` is the worst of all runs, of `samples` samples; `why` if not true."""

    name: str
    limit: float | str | None
    figure: float | str | None
    samples: int
    verdict: bool | None
    code: int
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """The JSON object in the result."""
        return {
            "name": self.name,
            "limit": self.limit,
            "figure": self.figure,
            "samples": self.samples,
            "verdict": "unknown" if self.verdict is None else self.verdict,
            "why": self.why,
        }


class _Gate(NamedTuple):
    """A figure with an upper limit: how it and its number of samples are computed from a result."""

    name: str
    figure: Callable[[Result], float | None]
    samples: Callable[[Result], int]
    nothing: str


def _p99(what: str) -> Callable[[Result], float | None]:
    return lambda result: (result["change"][what] or {}).get("p99")


def _changes(result: Result) -> int:
    return int(result["change"]["count"])


GATES = {
    "max_p99": _Gate("--max-p99", _p99("convergence_seconds"), _changes, "no change reached the kernel"),
    "max_work_p99": _Gate("--max-work-p99", _p99("work_seconds"), _changes, "no change reached the kernel"),
    "max_gap": _Gate(
        "--max-gap",
        lambda result: result["between_syncs"]["longest_gap_seconds"],
        lambda result: result["between_syncs"]["connections"],
        "no connections were attempted during syncs",
    ),
    "max_initial": _Gate(
        "--max-initial",
        lambda result: result["initial"]["seconds"] if result["recording"]["services"] else None,
        lambda result: int(result["recording"]["services"] > 0),
        "the initial list has no Services",
    ),
}
"""Gates by the name of the option."""


def judge(results: Sequence[Result], limits: Mapping[str, float | None], digest: str | None) -> list[Objective]:
    """Verdicts over all runs: verification, digests, and each figure with a limit."""
    found = [_agreement(results), _digests(results, digest)]
    unseen = found[0].verdict is None
    for option, limit in limits.items():
        if limit is not None:
            found.append(_below(GATES[option], results, limit, unseen))
    return found


def exit_code(objectives: Sequence[Objective], asked: bool) -> int:
    """The code of the first false objective, else that of unknown ones if a verdict was `asked` for."""
    false = [objective.code for objective in objectives if objective.verdict is False]
    if false:
        return false[0]
    return EXIT_UNKNOWN if asked and any(objective.verdict is None for objective in objectives) else 0


def _agreement(results: Sequence[Result]) -> Objective:
    name = "the kernel does what the events say"
    checks = sum(result["checks"] for result in results)
    if any(result["verified"] is False for result in results):
        count = sum(len(result["differences"]) for result in results)
        return Objective(name, None, None, checks, False, EXIT_UNVERIFIED, plural(count, "difference"))
    why = next((why for why in map(_unverified, results) if why), "")
    return Objective(name, None, None, checks, None if why else True, EXIT_UNVERIFIED, why)


def _unverified(result: Result) -> str:
    return "" if result["verified"] is True else result["verification"]["unknown_because"]


def _digests(results: Sequence[Result], expected: str | None) -> Objective:
    found = sorted({result["digest"] for result in results})
    fine = len(found) == 1 and expected in (None, found[0])
    why = "" if fine else f"digest {', '.join(found)}, expected {expected or 'one'}"
    return Objective("digest", expected, ", ".join(found), len(results), fine, EXIT_DIGEST, why)


def _below(gate: _Gate, results: Sequence[Result], limit: float, unseen: bool) -> Objective:
    figures = [gate.figure(result) for result in results]
    samples = sum(gate.samples(result) for result in results)
    measured = [figure for figure in figures if figure is not None]
    worst = max(measured, default=None)
    verdict: bool | None
    if worst is not None and worst > limit:
        verdict, why = False, f"{gate.name} {limit:g} s exceeded: {worst:.3f} s"
    elif len(measured) < len(figures):
        verdict, why = None, f"{gate.name} {limit:g} s: {gate.nothing}"
    elif unseen:
        verdict, why = None, f"{gate.name} {limit:g} s: the rules were not verified"
    else:
        verdict, why = True, ""
    return Objective(gate.name, limit, worst, samples, verdict, EXIT_GATE, why)
