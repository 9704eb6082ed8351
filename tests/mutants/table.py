"""The findings as a Markdown table, and a summary of undetected bugs."""

from __future__ import annotations

from pathlib import Path

from tests.mutants.catalogue import Mutant
from tests.mutants.gates import BROKEN, CAUGHT, GATES, LATE, MISSED, UNKNOWN
from tests.mutants.results import Results

MARKS = {CAUGHT: "caught", MISSED: "–", UNKNOWN: "unknown", LATE: "no end", BROKEN: "broke down"}
BEGIN, END = "<!-- mutants: begin -->", "<!-- mutants: end -->"


def markdown(mutants: list[Mutant], results: Results, known: dict[str, str]) -> str:
    """A row per mutant and a column per gate, blank for "not run"; then the known survivors with their reasons."""
    head = ["| mutant | mode | bug | " + " | ".join(GATES) + " |", "| --- " * (3 + len(GATES)) + "|"]
    rows = [f"| {m.id} | {m.mode} | {m.what} | " + " | ".join(_marks(m, results)) + " |" for m in mutants]
    may = ["", "Bugs that may survive:", "", "| mutant | bug | why |", "| --- | --- | --- |"]
    may += [f"| {m.id} | {m.what} | {known[m.id]} |" for m in mutants if m.id in known]
    return "\n".join([_counts(mutants, results), "", *head, *rows, *may])


def _marks(mutant: Mutant, results: Results) -> list[str]:
    found = [results.finding(mutant.id, gate) for gate in GATES]
    return [MARKS[finding.outcome] if finding else "" for finding in found]


def _counts(mutants: list[Mutant], results: Results) -> str:
    lines = ["| gate | mutants run | caught |", "| --- | --- | --- |"]
    for name, gate in GATES.items():
        found = [finding for m in mutants if (finding := results.finding(m.id, name))]
        caught = sum(finding.outcome == CAUGHT for finding in found)
        lines.append(f"| {name}: {gate.what} | {len(found)} | {caught} |")
    run = [m for m in mutants if _outcomes(m, results)]
    caught = sum(CAUGHT in _outcomes(m, results) for m in run)
    return "\n".join([*lines, f"| any | {len(run)} | {caught} |"])


def _outcomes(mutant: Mutant, results: Results) -> set[str]:
    return {finding.outcome for gate in GATES if (finding := results.finding(mutant.id, gate))}


def summary(chosen: list[Mutant], results: Results, known: dict[str, str]) -> tuple[str, int]:
    """The closing text; how many mutants are neither caught nor known to survive, or broke a gate down."""
    run = [m for m in chosen if _outcomes(m, results)]
    missed = [m for m in run if CAUGHT not in _outcomes(m, results)]
    broken = [m for m in missed if _outcomes(m, results) & ({BROKEN} if m.id in known else {UNKNOWN, LATE, BROKEN})]
    new = [m for m in missed if m.id not in known]
    lines = [
        f"{len(run)} mutants run, {len(run) - len(missed)} caught, {len(missed)} not, {len(new)} of them unexpected"
    ]
    lines += [f"  not caught: {m.id} ({m.mode}): {m.what}{_reason(m, known)}" for m in missed]
    lines += [f"  without a verdict: {m.id} ({m.mode}): {m.what}" for m in broken]
    return "\n".join(lines), len({m.id for m in (*new, *broken)})


def _reason(mutant: Mutant, known: dict[str, str]) -> str:
    return f"; known: {known[mutant.id]}" if mutant.id in known else ""


def write_into(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the marks in a file."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
