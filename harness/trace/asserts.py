"""What cases assert beyond packets: virtual servers, ipsets, metrics, one firewall rule."""

from __future__ import annotations

from typing import Any

KNOWN = ("virtual_servers", "ipsets", "metrics", "martian_firewall_rule")


def judged_asserts(asserts: dict[str, Any], facts: dict[str, Any], partial: bool, number: int) -> list[dict[str, Any]]:
    """A verdict for each assertion; one about what nobody can tell has not passed."""
    return [
        {"name": name, "stage": number, "expected": wanted, "actual": facts.get(name)}
        | {"passed": name in facts and _holds(name, wanted, facts[name], partial)}
        for name, wanted in asserts.items()
    ]


def _holds(name: str, wanted: Any, found: Any, partial: bool) -> bool:
    if not isinstance(wanted, dict):
        return wanted == found
    if not partial and name == "virtual_servers" and wanted.keys() != found.keys():
        return False
    return all(
        _normal(value) == _normal(found.get(key, [] if name == "ipsets" else None)) for key, value in wanted.items()
    )


def _normal(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else value
