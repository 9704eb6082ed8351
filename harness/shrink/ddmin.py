"""Minimizing delta debugging: a minimal subset of parts for which a predicate still holds.  Pure.

Source: A. Zeller and R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE Transactions on
Software Engineering 28(2), 2002, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def ddmin(parts: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> list[T]:
    """A 1-minimal subset of `parts`, in order, for which `holds` is still true; it must be true for all of them.

    1-minimal: it is false without any single one of them.  `holds` is called for the empty subset first, and never for
    the same subset twice in a row.
    """
    kept = list(parts)
    if kept and holds([]):
        return []
    chunks = 2
    while len(kept) > 1:
        size = -(-len(kept) // chunks)
        without = ([*kept[:at], *kept[at + size :]] for at in range(0, len(kept), size))
        smaller = next((rest for rest in without if holds(rest)), None)
        if smaller is not None:
            kept, chunks = smaller, max(2, chunks - 1)
        elif size == 1:
            break
        else:
            chunks = min(len(kept), chunks * 2)
    return kept
