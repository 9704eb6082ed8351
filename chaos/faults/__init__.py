"""All faults by name. Each module holds one family; none of them does anything but decide."""

from __future__ import annotations

from typing import Any

import msgspec

from chaos.faults import api, churn, conntrack, engines, log, network, nodes, pods, probes
from chaos.model import Fault, PlanError

FAULTS: dict[str, type] = {
    kind.NAME: kind
    for module in (pods, probes, nodes, engines, api, network, churn, conntrack, log)
    for kind in module.FAULTS
}


def fault_of(name: str, parameters: dict[str, Any]) -> Fault:
    """The fault with its parameters; PlanError for an unknown one, or for parameters that it does not take."""
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
