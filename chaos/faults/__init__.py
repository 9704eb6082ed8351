"""All faults by name.  The modules of this package are discovered, and each lists its faults as `FAULTS`.  Pure."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import msgspec

from chaos.model import Effect, Fault, PlanError

FAULTS: dict[str, type[Fault]] = {
    kind.NAME: kind
    for found in iter_modules(__path__)
    for kind in getattr(import_module(f"{__name__}.{found.name}"), "FAULTS", ())
}


def having(effect: Effect) -> frozenset[str]:
    """Names of the faults with that effect."""
    return frozenset(name for name, kind in FAULTS.items() if effect in kind.EFFECTS)


def fault_of(name: str, parameters: dict[str, Any]) -> Fault:
    """The fault with its parameters; PlanError for an unknown fault or parameter."""
    kind = FAULTS.get(name)
    if kind is None:
        raise PlanError(f"unknown fault {name!r}; there are: {', '.join(sorted(FAULTS))}")
    unknown = parameters.keys() - {field.name for field in msgspec.structs.fields(kind)}
    if unknown:
        takes = ", ".join(field.name for field in msgspec.structs.fields(kind)) or "none"
        raise PlanError(f"{name} has no parameter {sorted(unknown)[0]!r}; it takes: {takes}")
    try:
        return msgspec.convert(parameters, kind)
    except msgspec.ValidationError as error:
        raise PlanError(f"{name}: {error}") from None
