"""The dispatcher: does what a step's script says, sees whether it took, and always heals.

    note inject -> operations at their times, looking for the evidence -> hold -> heal -> look again -> note heal

A fault whose evidence was never seen was not injected: whatever was measured meanwhile says nothing about it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from chaos.model import Cluster, Condition, Op, Step

LOOK_SECONDS = 0.1
HEAL_SECONDS = 30.0


class TargetError(RuntimeError):
    """The target refused an operation, or has no such operation; the message says why."""


class Target(Protocol):
    """Where faults go."""

    def cluster(self) -> Cluster:
        """What there is to choose from now."""

    def can(self, op: Op) -> str:
        """Why it has no way to do the operation; "" when it has."""

    def perform(self, op: Op) -> None:
        """Carry out one operation; TargetError when it cannot be."""

    def holds(self, conditions: list[Condition]) -> list[bool]:
        """Which of the conditions hold now, by one look; TargetError when it cannot be seen."""

    def note(self, what: dict[str, Any]) -> float:
        """Write a FAULT event into the cluster's log; the log's time of it in seconds."""

    def now(self) -> float:
        """Seconds on the log's clock."""


class Performed(msgspec.Struct):
    """What became of one step; times in seconds on the log's clock.

    `injected` is whether all evidence was seen, `missing` what was not, `healed` whether the cluster was seen to be
    as before, `settled` when everything followed, `errors` the target's words.
    """

    number: int
    fault: str
    pods: tuple[str, ...]
    nodes: tuple[str, ...]
    began: float
    confirmed: float | None = None
    ended: float | None = None
    settled: float | None = None
    injected: bool = False
    healed: bool = False
    missing: list[str] = []
    errors: list[str] = []


class Performer:
    """Carries out steps on a target; `tell` gets a line for each thing that happens."""

    def __init__(self, target: Target, tell: Callable[[str], None] = lambda _: None) -> None:
        self._target, self._tell = target, tell

    def perform(self, step: Step) -> Performed:
        """One step from injection to heal. Never raises TargetError; an interruption heals, then goes on up."""
        whom = ", ".join(step.nodes or step.pods) or "the cluster"
        self._tell(f"{step.number}. {step.fault}: {whom}, {step.seconds:g} s")
        done = Performed(step.number, step.fault, step.pods, step.nodes, self._target.now(), missing=[], errors=[])
        open_conditions = list(step.script.evidence)
        try:
            done.began = self._note(step, "inject")
            self._inject(step, done, open_conditions)
        finally:
            done.missing = [str(condition) for condition in open_conditions]
            done.injected = not done.missing and not done.errors
            self._heal(step, done)
        return done

    def _inject(self, step: Step, done: Performed, open_conditions: list[Condition]) -> None:
        started = time.monotonic()
        try:
            for op in step.script.inject:
                self._look_until(started + op.at, done, open_conditions)
                self._target.perform(op)
            self._look_until(started + step.seconds, done, open_conditions, once=True)
        except TargetError as error:
            done.errors.append(str(error))
            self._tell(f"   could not be injected: {error}")

    def _look_until(self, deadline: float, done: Performed, conditions: list[Condition], once: bool = False) -> None:
        """Wait, looking for evidence that is still missing; `once` looks even when the time is over."""
        while once or time.monotonic() < deadline:
            once = False
            if conditions:
                seen = self._target.holds(conditions)
                conditions[:] = [c for c, holds in zip(list(conditions), seen, strict=True) if not holds]
                if not conditions:
                    done.confirmed = self._target.now()
            time.sleep(max(0.0, min(LOOK_SECONDS, deadline - time.monotonic())))

    def _heal(self, step: Step, done: Performed) -> None:
        """Every operation is tried, whatever became of those before it; then the conditions must come true."""
        started = time.monotonic()
        refused = []
        for op in step.script.heal:
            time.sleep(max(0.0, started + op.at - time.monotonic()))
            try:
                self._target.perform(op)
            except TargetError as error:
                refused.append(str(error))
        left = self._await(step.script.healed)
        done.healed = not left
        if left:
            done.errors += [*refused, *(f"not healed: {condition}" for condition in left)]
            self._tell(f"   HEAL FAILED: {'; '.join(map(str, left))}")
        done.ended = self._note(step, "heal" if done.healed else "heal-failed")

    def _await(self, conditions: tuple[Condition, ...]) -> list[Condition]:
        left = list(conditions)
        deadline = time.monotonic() + HEAL_SECONDS
        while left:
            try:
                left = [c for c, holds in zip(left, self._target.holds(left), strict=True) if not holds]
            except TargetError:
                pass  # asked again until the deadline
            if not left or time.monotonic() > deadline:
                break
            time.sleep(LOOK_SECONDS)
        return left

    def _note(self, step: Step, phase: str) -> float:
        what = {
            "fault": step.fault,
            "phase": phase,
            "step": step.number,
            "pods": step.pods,
            "nodes": step.nodes,
            "parameters": step.parameters,
        }
        return self._target.note(what)
