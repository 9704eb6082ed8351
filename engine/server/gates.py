"""The feature gates that Kubernetes 1.30 to 1.35 know: naming another is an error (CFG-08).

The list is a file of names.  What a gate does is `engine.config`'s business, and most do nothing in a proxy.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files


@cache
def known_gates() -> frozenset[str]:
    """Every gate's name."""
    return frozenset((files(__package__) / "gates.txt").read_text().split())


def unknown_gates(names: Iterable[str]) -> list[str]:
    """Those that no version knows, sorted."""
    return sorted(set(names) - known_gates())


def complaint(names: Iterable[str]) -> str:
    """What is wrong with these names, "" when nothing is."""
    return ", ".join(f"unrecognized feature gate: {name}" for name in unknown_gates(names))
