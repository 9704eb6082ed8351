"""The request rate over the time of a load: constant, in steps, with spikes. Pure.

{}                                                              constant
{"kind": "steps", "seconds": 10, "factors": [0.5, 1, 2]}        each factor for that long, the last one until the end
{"kind": "spikes", "every_seconds": 20, "seconds": 2, "factor": 3}
"""

from __future__ import annotations

from typing import Any

from loadtests.spec import SpecError

_FIELDS = {
    "": set(),
    "constant": set(),
    "steps": {"seconds", "factors"},
    "spikes": {"every_seconds", "seconds", "factor"},
}


def check(shape: dict[str, Any]) -> None:
    """SpecError for an invalid shape."""
    kind = shape.get("kind", "")
    if kind not in _FIELDS:
        raise SpecError(f"unknown shape {kind!r}; there are: constant, steps, spikes")
    given = shape.keys() - {"kind"}
    if given != _FIELDS[kind]:
        raise SpecError(f"shape {kind or 'constant'} takes {sorted(_FIELDS[kind])}, not {sorted(given)}")


def factor_at(shape: dict[str, Any], seconds: float) -> float:
    """The factor of the rate at the given time of the load."""
    kind = shape.get("kind", "")
    if kind == "steps":
        factors = shape["factors"]
        return float(factors[min(int(seconds / shape["seconds"]), len(factors) - 1)])
    if kind == "spikes":
        every = shape["every_seconds"]
        return float(shape["factor"]) if seconds % every >= every - shape["seconds"] else 1.0
    return 1.0
