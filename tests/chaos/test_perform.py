"""The dispatcher: whatever the target does, everything is healed, and what was not seen was not injected."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos import perform
from chaos.model import Cluster, Condition, Op, Script, Step
from chaos.perform import Performer, TargetError


class Stand:
    """A target that keeps what it is told, refuses some operations, and shows conditions once their op was done."""

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


def step(inject: list[str], heal: list[str]) -> Step:
    def condition(name: str) -> Condition:
        return Condition("pod", name, "running", True)

    script = Script(
        tuple(Op(0, name, {}) for name in inject),
        tuple(map(condition, inject)),
        tuple(Op(0, name, {}) for name in heal),
        tuple(map(condition, heal)),
    )
    return Step(1, "fault", {}, 0.0, (), (), script)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(perform, "HEAL_SECONDS", 0.02)
    monkeypatch.setattr(perform, "LOOK_SECONDS", 0.01)


OPS = ["one", "two", "three"]
HEALS = ["heal one", "heal two", "heal three"]


@settings(max_examples=40)
@given(refused=st.frozensets(st.sampled_from(OPS + HEALS)), blind=st.booleans())
def test_every_heal_is_tried_and_the_outcome_is_told(refused, blind):
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


def test_what_was_missing_is_named():
    done = Performer(Stand(frozenset({"two"}))).perform(step(OPS, HEALS))
    assert "pod two has running True" in done.missing
    assert done.errors == ["two refused"]
