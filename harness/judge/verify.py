"""Verifies kernel state against the oracle, in every mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from harness.judge.behaviour import Behaviour
from harness.judge.oracle import Oracle, Settings
from harness.judge.readback.judged import UNREADABLE, Judged


class Judging(Protocol):
    """Something that holds rules and can compare them with the expected behaviour."""

    def judged(self, family: int, expected: Behaviour, settings: Settings) -> Judged:
        """Compare all state of one family with the expected state."""


def readback(view: Judging, oracle: Oracle, mode: str, families: Iterable[int] = (4, 6)) -> Judged:
    """The results of all families; each difference is prefixed with its family."""
    differences: list[str] = []
    checked: Counter[str] = Counter()
    unchecked: dict[str, None] = {}
    for family in families:
        found = _judged(view, family, oracle, mode)
        differences += [f"IPv{family}: {line}" for line in found.differences]
        checked.update(found.checked)
        unchecked.update(dict.fromkeys(found.unchecked))
    return Judged(differences, dict(checked), list(unchecked))


def _judged(view: Judging, family: int, oracle: Oracle, mode: str) -> Judged:
    """State that cannot be read counts as a difference."""
    try:
        return view.judged(family, oracle.behaviour(family, mode), oracle.settings)
    except UNREADABLE as error:
        return Judged([f"the kernel's state cannot be read: {error}"], {}, [])
