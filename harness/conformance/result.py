"""The result of a conformance run, as it is written (docs/schemas/conformance.json)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from harness.log.events import JsonObject

PASSED, FAILED, NOT_APPLICABLE = STATES = ("passed", "failed", "not applicable")


class Counts(Struct, frozen=True):
    """Cases by state, in the order of `STATES`."""

    passed: int
    failed: int
    not_applicable: int = msgspec.field(name=NOT_APPLICABLE)


class RuleCounts(Struct, frozen=True):
    """Cases of one rule by state."""

    rule: str
    passed: int
    failed: int
    not_applicable: int = msgspec.field(name=NOT_APPLICABLE)


class UnmetExpectation(Struct, frozen=True):
    """What was expected after the events of step number `step`, for a `packet` if given, and what happened."""

    step: int
    packet: str
    expected: str
    happened: str

    def __str__(self) -> str:
        packet = f"{self.packet}: " if self.packet else ""
        return f"{packet}expected {self.expected}; happened: {self.happened}"


class WrittenCase(Struct, frozen=True):
    """One case; `events` are those that a random cluster was reduced to, `replay` is the command that repeats it."""

    id: str
    name: str
    rules: list[str]
    source: str
    state: str
    why: str
    seconds: float
    failures: list[UnmetExpectation]
    events: list[JsonObject] | None
    replay: str


class ConformanceResult(Struct, frozen=True):
    """One run against one proxy; `command` is None for the engine, `began` is RFC 3339."""

    proxy: str
    command: list[str] | None
    mode: str
    kube_version: str
    kernel: str
    began: str
    seconds: float
    counts: Counts
    passed: bool
    rules: list[RuleCounts]
    cases: list[WrittenCase]
