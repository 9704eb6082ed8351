"""The gates: the commands of each, the bugs it applies to, and how its end is interpreted.

Bounds of time are not absolute: they are the unmodified engine's own figures, measured in the same session.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutants.catalogue import ROOT, Mutant
from tests.mutants.checkout import Done, run

SLACK_SECONDS = 0.25
"""How much longer than the unmodified engine's a change may take."""

LATEST = 4
"""A gate may take as many times as long as with the unmodified engine in the same session, and a minute more."""

CAUGHT, MISSED = "caught", "missed"
UNKNOWN, LATE, BROKEN = "unknown", "late", "broken"
"""No verdict: the gate ended with unknown or a traceback, or exceeded its time limit."""

UNKNOWN_CODES = {"chaos": 3}
"""The exit code of "unknown" where it is not replay's."""
_REPLAY_UNKNOWN = 6

Figures = dict[str, Any]


class Finding(NamedTuple):
    """A gate's finding about one bug, and the line with the reason."""

    outcome: str
    why: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return self._asdict()


class Gate(NamedTuple):
    """`words` gives the command for a mode, from the folder and the unmodified engine's figures."""

    what: str
    words: Callable[[str, Path, Figures], list[str]]
    concerns: Callable[[Mutant], bool]
    limit_seconds: float


def _not_in_daemon(mutant: Mutant) -> bool:
    return not mutant.in_daemon


def _replay(name: str, *options: str) -> Callable[[str, Path, Figures], list[str]]:
    def words(mode: str, folder: Path, figures: Figures) -> list[str]:
        measured = [gate for gate in ("max-p99", "max-work-p99") if gate in figures]
        gates = [f"--{gate}={figures[gate] + SLACK_SECONDS:.3f}" for gate in measured]
        path = str(ROOT / "recordings" / name)
        return [
            "-m",
            "harness",
            "replay",
            path,
            "--mode",
            mode,
            "--json",
            str(folder / "result.json"),
            *options,
            *gates,
        ]

    return words


def _of_rules(*options: str) -> Callable[[str, Path, Figures], list[str]]:
    """Packets take minutes in a virtual machine that is emulated: there the readback has to do."""

    def words(mode: str, folder: Path, figures: Figures) -> list[str]:
        how = ["--verify", "readback"] if mode == "ipvs" else []
        return _replay("rules.jsonl", *options, *how)(mode, folder, figures)

    return words


def _cases(mode: str, _: Path, __: Figures) -> list[str]:
    kernel = "auto" if mode == "ipvs" else "netns"
    folder = str(ROOT / "harness" / "conformance" / "corpus" / "cases")
    return ["-m", "harness", "trace", "--cases", folder, "--mode", mode, "--kernel", kernel]


def _compare(mode: str, _: Path, __: Figures) -> list[str]:
    modes = {"nftables": "nftables,iptables", "iptables": "iptables,nftables"}.get(mode, f"{mode},iptables")
    path = str(ROOT / "recordings" / "demo.jsonl")
    return ["-m", "harness", "compare", path, "--modes", modes, "--verify", "none", "--json", "compared.json"]


def _chaos(mode: str, folder: Path, _: Figures) -> list[str]:
    path = str(ROOT / "chaos" / "experiments" / "release-gate-short.yaml")
    return ["-m", "harness", "chaos", "run", path, "--mode", mode, "--out", str(folder / "run")]


def _in_memory_first(mutant: Mutant) -> bool:
    """ipvs alone: elsewhere the kernel itself is as quick, here another one has to be booted for it."""
    return mutant.mode == "ipvs"


GATES = {
    "memory": Gate(
        "replay of rules.jsonl into memory, ipvs alone",
        _replay("rules.jsonl", "--kernel", "memory"),
        _in_memory_first,
        90,
    ),
    "start": Gate("replay of the initial list of rules.jsonl", _of_rules("--until", "0s"), _not_in_daemon, 90),
    "rules": Gate("replay of rules.jsonl", _of_rules("--check-every", "1"), _not_in_daemon, 240),
    "demo": Gate("replay of demo.jsonl", _replay("demo.jsonl"), _not_in_daemon, 180),
    "cases": Gate("acceptance cases, by text and by packets", _cases, _not_in_daemon, 180),
    "chaos": Gate("release-gate-short", _chaos, lambda mutant: mutant.mode != "ipvs", 300),
    "compare": Gate("compare of demo.jsonl, without verification", _compare, _not_in_daemon, 180),
}


def judge(name: str, mode: str, folder: Path, figures: Figures) -> tuple[Finding, Figures]:
    """Run a gate on the copy in `folder`; what it found, and the figures of a gate that has some."""
    gate = GATES[name]
    limit = figures["seconds"] * LATEST + 60 if figures else gate.limit_seconds * (6 if mode == "ipvs" else 1)
    done = run(folder, gate.words(mode, folder, figures), limit)
    finding = Finding(*_meaning(name, done), round(done.seconds, 1))
    return finding, {"seconds": finding.seconds, **_figures(folder / "result.json")}


def _meaning(name: str, done: Done) -> tuple[str, str]:
    if done.code is None:
        return LATE, "did not end within its bound"
    if done.code == 0:
        return MISSED, ""
    if "Traceback (most recent call last)" in done.output and not _refusal(done.output):
        return BROKEN, _last_line(done.output)
    outcome = UNKNOWN if done.code == UNKNOWN_CODES.get(name, _REPLAY_UNKNOWN) else CAUGHT
    return outcome, f"exit {done.code}: {_reason(done.output)}"


def _refusal(output: str) -> bool:
    """Whether the traceback is a log of the engine's, and the gate went on to a verdict."""
    return bool(re.search(r"^(Error: |NOT VERIFIED|\s*(wrong|verdict)\b)", output, re.MULTILINE | re.IGNORECASE))


def _reason(output: str) -> str:
    """The first line that speaks of a difference, else the last line there is."""
    for pattern in (r"^ *FAIL .*$", r"^.*(?:expected|it should|differs?|exceeded|refused|FALSE|UNKNOWN).*$"):
        found = re.search(pattern, output, re.MULTILINE)
        if found:
            return found[0].strip()[:160]
    return _last_line(output)


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


def _figures(path: Path) -> Figures:
    """The figures of a replay that others are compared with."""
    if not path.exists():
        return {}
    change = json.loads(path.read_text())["change"]
    if not change["count"]:
        return {}
    return {
        "max-p99": (change["convergence_seconds"] or {}).get("p99", 0.0),
        "max-work-p99": (change["work_seconds"] or {}).get("p99", 0.0),
    }
