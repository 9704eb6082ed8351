"""The dispatcher: whatever the target does, everything is healed, and faults without evidence count as not injected."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos import perform
from chaos.model import Cluster, Condition, Op, PlannedFault, Script
from chaos.perform import Performer, TargetError


class Stand:
    """A target that records its operations, refuses some operations, and shows conditions once their op was done."""

    def __init__(self, refused: frozenset[str] = frozenset(), blind: bool = False, stop_at: str = "") -> None:
        self.done: list[str] = []
        self.notes: list[str] = []
        self._refused, self._blind, self._stop_at = refused, blind, stop_at

    def can(self, op: Op) -> str:
        return ""

    def cluster(self) -> Cluster:
        return Cluster((), ())

    def perform(self, op: Op) -> None:
        if op.name == self._stop_at:
            raise KeyboardInterrupt
        self.done.append(op.name)
        if op.name in self._refused:
            raise TargetError(f"{op.name} refused")

    def holds(self, conditions: list[Condition]) -> list[bool]:
        return [not self._blind and c.name in self.done and c.name not in self._refused for c in conditions]

    def note(self, what: dict) -> float:
        self.notes.append(what["phase"])
        return 0.0

    def now(self) -> float:
        return 0.0


def step(inject: list[str], heal: list[str]) -> PlannedFault:
    def condition(name: str) -> Condition:
        return Condition("pod", name, "running", True)

    script = Script(
        tuple(Op(0, name, {}) for name in inject),
        tuple(map(condition, inject)),
        tuple(Op(0, name, {}) for name in heal),
        tuple(map(condition, heal)),
    )
    return PlannedFault(1, "fault", {}, 0.0, (), (), script)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(perform, "EVIDENCE_SECONDS", 0.02)
    monkeypatch.setattr(perform, "HEAL_SECONDS", 0.02)
    monkeypatch.setattr(perform, "LOOK_SECONDS", 0.01)


OPS = ["one", "two", "three"]
HEALS = ["heal one", "heal two", "heal three"]


@settings(max_examples=40)
@given(refused=st.frozensets(st.sampled_from(OPS + HEALS)), blind=st.booleans())
def test_every_heal_is_tried_and_the_outcome_is_reported(refused, blind):
    target = Stand(refused, blind)
    done = Performer(target).perform(step(OPS, HEALS))
    assert [name for name in target.done if name in HEALS] == HEALS
    assert done.injected is (not blind and not refused & set(OPS))
    assert done.healed is (not blind and not refused & set(HEALS))
    assert target.notes == ["inject", "heal" if done.healed else "heal-failed"]
    assert bool(done.errors) is (not done.healed or bool(refused & set(OPS)))


@pytest.mark.parametrize("stop_at", OPS)
def test_an_interruption_heals_first(stop_at):
    target = Stand(stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        Performer(target).perform(step(OPS, HEALS))
    assert [name for name in target.done if name in HEALS] == HEALS
    assert target.notes == ["inject", "heal"]


def test_missing_evidence_is_named():
    done = Performer(Stand(frozenset({"two"}))).perform(step(OPS, HEALS))
    assert "pod two has running True" in done.missing
    assert done.errors == ["two refused"]


class Slow(Stand):
    """Operations take long, and their effects end by themselves after a while."""

    def __init__(self, takes: float, lasts: float = 60.0) -> None:
        super().__init__()
        self._takes, self._lasts, self._since = takes, lasts, 0.0

    def perform(self, op: Op) -> None:
        if op.name in OPS:
            time.sleep(self._takes)  # the slow operation itself
            self._since = time.monotonic()
        super().perform(op)

    def holds(self, conditions: list[Condition]) -> list[bool]:
        over = time.monotonic() - self._since > self._lasts
        seen = zip(conditions, super().holds(conditions), strict=True)
        return [held and not (over and condition.name in OPS) for condition, held in seen]

    def now(self) -> float:
        return time.monotonic()


def held(seconds: float) -> PlannedFault:
    return msgspec.structs.replace(step(OPS[:1], HEALS[:1]), seconds=seconds)


def test_the_duration_of_a_fault_counts_from_its_evidence():
    began = time.monotonic()
    done = Performer(Slow(takes=0.3)).perform(held(0.2))
    assert done.injected and done.healed
    assert done.asked_seconds == 0.2
    assert done.in_force_seconds >= 0.2
    assert done.confirmed - began >= 0.3


def test_a_fault_that_ended_before_its_heal_was_too_short():
    done = Performer(Slow(takes=0, lasts=0.1)).perform(held(0.3))
    assert done.injected and done.healed
    assert done.in_force_seconds is None


def test_a_script_without_lasting_evidence_is_in_force_for_its_duration():
    late = PlannedFault(1, "fault", {}, 0.2, (), (), Script(held(0).script.inject, held(0).script.evidence, lasting=()))
    assert Performer(Slow(takes=0, lasts=0.1)).perform(late).in_force_seconds >= 0.2
