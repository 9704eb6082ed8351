"""The dispatcher: carries out a step's script, checks that it took effect, and always heals.

    note inject -> operations at their times, checking for evidence -> hold -> check again -> heal -> note heal

A fault whose evidence was never observed was not injected: measurements during its time say nothing about it.  Its
duration counts from the evidence, as an operation may take long to take effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from chaos.model import Cluster, Condition, Op, PlannedFault
from harness.places import vm

LOOK_SECONDS = 0.1
EVIDENCE_SECONDS = 60.0
"""Timeout for evidence after the last operation: a kubelet may need 30 s to detect that a pod fails."""
HEAL_SECONDS = 30.0


class TargetError(RuntimeError):
    """The target refused an operation, or does not support it; the message states why."""


class ChaosTarget(Protocol):
    """The system into which faults are injected."""

    def cluster(self) -> Cluster:
        """The possible targets of faults now."""

    def can(self, op: Op) -> str:
        """Why the operation is not supported; "" if it is."""

    def perform(self, op: Op) -> None:
        """Carry out one operation; TargetError if it fails."""

    def holds(self, conditions: list[Condition]) -> list[bool]:
        """Which of the conditions hold now, by one observation; TargetError if it cannot be made."""

    def note(self, what: Mapping[str, object]) -> float:
        """Write a FAULT event to the cluster's log; returns its time on the log's clock in seconds."""

    def now(self) -> float:
        """Seconds on the log's clock."""


class StepResult(msgspec.Struct):
    """The result of one step; times are in seconds on the log's clock.

    `injected`: whether all evidence was observed; `missing`: the evidence that was not; `in_force_seconds`: from the
    evidence to the check just before the heal (None: no longer in force), of `asked_seconds`; `healed`: whether the
    cluster was observed to be restored; `settled`: when everything had converged; `errors`: the target's messages.
    `engines_back`: when all engines were first healthy and followed the API after the heal; `kernels`: by node, the
    differences of its kernel state from the API then, None if it cannot be read.
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
    asked_seconds: float = 0.0
    in_force_seconds: float | None = None
    engines_back: float | None = None
    kernels: dict[str, list[str]] | None = None


class Performer:
    """Carries out steps on a target; `report` receives one line per event."""

    def __init__(self, target: ChaosTarget, report: Callable[[str], None] = lambda _: None) -> None:
        self._target, self._report = target, report

    def perform(self, step: PlannedFault) -> StepResult:
        """One step from injection to heal.  Never raises TargetError; an interruption is re-raised after the heal."""
        whom = ", ".join(step.nodes or step.pods) or "the cluster"
        self._report(f"{step.number}. {step.fault}: {whom}, {step.seconds:g} s")
        done = StepResult(
            step.number, step.fault, step.pods, step.nodes, self._target.now(), missing=[], errors=[],
            asked_seconds=step.seconds,
        )  # fmt: skip
        open_conditions = list(step.script.evidence)
        try:
            done.began = self._note(step, "inject")
            self._inject(step, done, open_conditions)
        finally:
            done.missing = [str(condition) for condition in open_conditions]
            done.injected = not done.missing and not done.errors
            self._heal(step, done)
        return done

    def _inject(self, step: PlannedFault, done: StepResult, open_conditions: list[Condition]) -> None:
        started = time.monotonic()
        try:
            for op in step.script.inject:
                self._look_until(started + op.at, done, open_conditions)
                self._target.perform(op)
            self._await_evidence(done, open_conditions)
            if not open_conditions:
                self._hold(step, done)
        except TargetError as error:
            done.errors.append(str(error))
            self._report(f"   could not be injected: {error}")

    def _look_until(self, deadline: float, done: StepResult, conditions: list[Condition]) -> None:
        """Wait, checking for evidence that is still missing."""
        while time.monotonic() < deadline:
            self._look(done, conditions)
            time.sleep(max(0.0, min(LOOK_SECONDS, deadline - time.monotonic())))

    def _await_evidence(self, done: StepResult, conditions: list[Condition]) -> None:
        deadline = time.monotonic() + EVIDENCE_SECONDS * vm.patience()
        self._look(done, conditions)
        while conditions and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            self._look(done, conditions)

    def _look(self, done: StepResult, conditions: list[Condition]) -> None:
        """Remove from `conditions` those that hold now; `confirmed` is when the last one did."""
        if conditions:
            seen = self._target.holds(conditions)
            conditions[:] = [c for c, holds in zip(list(conditions), seen, strict=True) if not holds]
        if not conditions and done.confirmed is None:
            done.confirmed = self._target.now()

    def _hold(self, step: PlannedFault, done: StepResult) -> None:
        """Wait until it was in force for the requested time, and check that it still is."""
        assert done.confirmed is not None, "evidence that it is in force"
        time.sleep(max(0.0, done.confirmed + step.seconds - self._target.now()))
        lasting = list(step.script.at_the_end)
        seen = self._target.holds(lasting)
        if all(seen):
            done.in_force_seconds = self._target.now() - done.confirmed
        for condition, holds in zip(lasting, seen, strict=True):
            if not holds:
                self._report(f"   was over before it was healed: not {condition}")

    def _heal(self, step: PlannedFault, done: StepResult) -> None:
        """Every operation is tried, even if earlier ones failed; then the conditions must become true."""
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
            self._report(f"   HEAL FAILED: {'; '.join(map(str, left))}")
        done.ended = self._note(step, "heal" if done.healed else "heal-failed")

    def _await(self, conditions: tuple[Condition, ...]) -> list[Condition]:
        left = list(conditions)
        deadline = time.monotonic() + HEAL_SECONDS * vm.patience()
        while left:
            try:
                left = [c for c, holds in zip(left, self._target.holds(left), strict=True) if not holds]
            except TargetError:
                pass  # retried until the deadline
            if not left or time.monotonic() > deadline:
                break
            time.sleep(LOOK_SECONDS)
        return left

    def _note(self, step: PlannedFault, phase: str) -> float:
        what = {
            "fault": step.fault,
            "phase": phase,
            "step": step.number,
            "pods": step.pods,
            "nodes": step.nodes,
            "parameters": step.parameters,
        }
        return self._target.note(what)
