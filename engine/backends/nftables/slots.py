"""Dense numbering of endpoints: slots 0..n-1, with as few moves as possible per change."""

from __future__ import annotations

from collections.abc import Sequence

from engine.model import Target


def reslotted(old: Sequence[Target], targets: Sequence[Target]) -> list[Target]:
    """The slots for `targets` with the fewest changes from `old`: gaps are filled from the end."""
    wanted = set(targets)
    slots: list[Target | None] = [target if target in wanted else None for target in old]
    fresh = sorted(wanted.difference(old), reverse=True)
    slots += [None] * (len(targets) - len(old))
    surplus = [target for target in slots[len(targets) :] if target is not None]
    del slots[len(targets) :]
    fresh = surplus + fresh
    return [fresh.pop() if target is None else target for target in slots]


def moves(old: Sequence[Target], slots: Sequence[Target]) -> int:
    """Number of elements deleted and added beyond one for each target added or removed."""
    shared = min(len(old), len(slots))
    elements = abs(len(old) - len(slots)) + 2 * sum(old[slot] != slots[slot] for slot in range(shared))
    return elements - len(set(old) ^ set(slots))
