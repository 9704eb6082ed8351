"""Validation of a Node: its name and its pod networks."""

from __future__ import annotations

from typing import Any

from harness.apiserver.admission import checks
from harness.apiserver.admission.service_defaults import family_of
from harness.apiserver.errors import Cause


def faults(new: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
    """All validation errors."""
    spec, before = new.get("spec") or {}, (old or {}).get("spec") or {}
    networks = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    causes = list(checks.subdomain("metadata.name", new["metadata"]["name"]))
    for number, network in enumerate(networks):
        causes += checks.network(f"spec.podCIDRs[{number}]", network)
    if spec.get("podCIDR", networks[0] if networks else None) != (networks[0] if networks else None):
        causes.append(checks.invalid("spec.podCIDRs[0]", networks[0], "must match `podCIDR`"))
    if len(networks) > 2 or len({family_of(network) for network in networks}) < len(networks):
        why = "may specify no more than one CIDR for each IP family"
        causes.append(checks.invalid("spec.podCIDRs", networks, why))
    if before.get("podCIDRs") and networks != before["podCIDRs"]:
        causes.append(checks.forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))
    return causes
