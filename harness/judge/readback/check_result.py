"""The result of reading one family back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from harness.judge.behaviour import Behaviour

Given = TypeVar("Given")


class CheckResult(msgspec.Struct, frozen=True):
    """`differences` are printable lines; `checked` counts the checked items, `unchecked` lists what was not checked."""

    differences: list[str]
    checked: dict[str, int]
    unchecked: list[str]


UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Raised by readback for state that no proxy writes: it counts as a difference, and does not abort the judge."""


def attempted(read: Callable[[], Given]) -> Given | str:
    """A behaviour, or the reason why there is none."""
    try:
        return read()
    except UNREADABLE as error:
        return f"the kernel's elements are inconsistent: {error if str(error) else type(error).__name__}"


def nothing(expected: Behaviour) -> CheckResult:
    """The result if the kernel has no state of a family."""
    wanted = len(expected.destinations)
    return CheckResult([f"the kernel has no table, {wanted} destinations expected"] if wanted else [], {}, [])


def settings_differ(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """A line for each sysctl that differs from its expected value."""
    return [
        f"sysctl {name} is {found.get(name, 'absent')}, expected {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
