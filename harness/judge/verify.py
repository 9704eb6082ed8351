"""Verifies kernel state against the oracle, in every mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from harness.judge.behaviour import Behaviour
from harness.judge.oracle import Oracle, Settings
from harness.judge.readback.check_result import UNREADABLE, CheckResult


class CheckedView(Protocol):
    """A view of kernel state that compares it with the expected behaviour."""

    def check(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult:
        """Compare all state of one family, including fixed rules; never raises for differences."""


@runtime_checkable
class ReadAheadView(CheckedView, Protocol):
    """A view whose tool takes long to list the rules, while this process can do other work."""

    def read_ahead(self, families: Iterable[int]) -> None:
        """Start to list what `check` compares next; no rule changes until then."""


@runtime_checkable
class IncrementalView(CheckedView, Protocol):
    """A view that also tracks changes since the last comparison."""

    def follow(self) -> None:
        """Listen to the kernel from the next complete comparison on."""

    def changed(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult | None:
        """Compare only what changed; None if that is unknown."""


def readback(
    view: CheckedView, oracle: Oracle, mode: str, families: Iterable[int] = (4, 6), whole: bool = True
) -> CheckResult:
    """The results of all families; each difference is prefixed with its family.

    Unless `whole`, only what changed since the last call is compared where the view knows that.
    """
    differences: list[str] = []
    checked: Counter[str] = Counter()
    unchecked: dict[str, None] = {}
    for family in families:
        found = _check(view, family, oracle, mode, whole)
        differences += [f"IPv{family}: {line}" for line in found.differences]
        checked.update(found.checked)
        unchecked.update(dict.fromkeys(found.unchecked))
    return CheckResult(differences, dict(checked), list(unchecked))


def _check(view: CheckedView, family: int, oracle: Oracle, mode: str, whole: bool) -> CheckResult:
    """State that cannot be read counts as a difference."""
    try:
        expected = oracle.behaviour(family, mode)
        part = (
            None if whole or not isinstance(view, IncrementalView) else view.changed(family, expected, oracle.settings)
        )
        return part or view.check(family, expected, oracle.settings)
    except UNREADABLE as error:
        return CheckResult([f"the kernel's state cannot be read: {error}"], {}, [])
