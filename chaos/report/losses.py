"""The lost requests of a run: flow, time, cause, target pod, and the command that replays that moment.  Pure."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from chaos.verdict.facts import Facts, LostRequest
from harness.html import words

SHOWN = 50
AROUND_SECONDS = 1.0
COLUMNS = ("at_seconds", "ended_seconds", "flow", "from", "to_node", "to_pod", "to_endpoint", "cause")
RECORDING = "events.jsonl"


class LostRow(NamedTuple):
    """One lost request, as shown on the page."""

    at: float
    flow: str
    whence: str
    whither: str
    cause: str
    command: str


def shown(facts: Facts) -> tuple[LostRow, ...]:
    """The first SHOWN, in the order in which they were due."""
    return tuple(map(_lost, _ordered(facts)[:SHOWN]))


def table(facts: Facts) -> str:
    """All of them as CSV."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    out.writerows(_row(failure) for failure in _ordered(facts))
    return text.getvalue()


def _ordered(facts: Facts) -> list[LostRequest]:
    return sorted(facts.load.failures, key=lambda f: (f.at, f.flow, f.ended, f.endpoint or ""))


def _row(failure: LostRequest) -> Iterable[object]:
    named = (failure.flow, failure.where, failure.node, failure.pod, failure.endpoint, failure.cause)
    return [f"{failure.at:.6f}", f"{failure.ended:.6f}", *(words.clean(each or "") for each in named)]


def _lost(failure: LostRequest) -> LostRow:
    whom = [failure.pod or failure.endpoint or "not known", *([f"by {failure.node}"] if failure.node else [])]
    return LostRow(
        failure.at,
        words.clean(failure.flow, 60),
        words.clean(failure.where or words.NOTHING, 60),
        words.clean(" ".join(whom), 120),
        words.clean(failure.cause, 60),
        replay_of(failure),
    )


def replay_of(failure: LostRequest) -> str:
    """The command, to be run in the run's folder, that replays the time around a loss for the request's target node."""
    start, end = max(0.0, failure.at - AROUND_SECONDS), max(failure.ended, failure.at) + AROUND_SECONDS
    node = ["--node", failure.node] if failure.node else []
    return shlex.join(["harness", "replay", RECORDING, "--from", f"{start:.1f}s", "--until", f"{end:.1f}s", *node])
