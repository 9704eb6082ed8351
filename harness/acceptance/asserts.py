"""What cases assert beyond packets: virtual servers, ipsets, metrics, one firewall rule."""

from __future__ import annotations

import re
from typing import Any

OF_SERVERS = ("vs_timeout", "vs_flags")
"""What every virtual server must have: seconds of persistence, names of flags."""
_LABEL = re.compile(r'(\w+)\s*=\s*"([^"]*)"')


def judged_asserts(asserts: dict[str, Any], facts: dict[str, Any], partial: bool, number: int) -> list[dict[str, Any]]:
    """A verdict for each assertion; one about what nobody can tell has not passed."""
    return [
        {"name": name, "stage": number, "expected": wanted, "actual": facts.get(name)}
        | {"passed": name in facts and _holds(name, wanted, facts[name], partial)}
        for name, wanted in asserts.items()
    ]


def _holds(name: str, wanted: Any, found: Any, partial: bool) -> bool:
    if name in OF_SERVERS:
        return bool(found) and all(_normal(value) == _normal(wanted) for value in found.values())
    if not isinstance(wanted, dict):
        return wanted == found
    if name == "metrics":
        by_labels = {_series(key): value for key, value in found.items()}
        return all(by_labels.get(_series(key)) == value for key, value in wanted.items())
    if name == "ipsets":
        return all(_entries_hold(_normal(value), _normal(_set(found, key)), partial) for key, value in wanted.items())
    wanted, found = ({_bare(key): _normal(value) for key, value in each.items()} for each in (wanted, found))
    return wanted == found if not partial else wanted.items() <= found.items()


def _set(sets: dict[str, list], name: str) -> list:
    """Entries of a set, also of one that has another name in IPv6 than the case calls it by (DS-03)."""
    return sets.get(name, sets.get(name.replace("KUBE-", "KUBE-6-", 1)[:31], []))


def _bare(text: str) -> str:
    """A socket without the brackets of IPv6."""
    return text.replace("[", "").replace("]", "")


def _entries_hold(wanted: Any, found: Any, partial: bool) -> bool:
    """All of them, and where the case tells a part no others but of a set it says is empty."""
    return set(wanted) <= set(found) if partial and wanted and isinstance(wanted, list) else wanted == found


def _series(text: str) -> tuple[str, frozenset]:
    """A metric's name and labels; the family's own label, which newer versions add, tells nothing here."""
    name, _, labels = text.partition("{")
    return name, frozenset(pair for pair in _LABEL.findall(labels) if pair[0] != "ip_family")


def _normal(value: Any) -> Any:
    return sorted(_bare(str(each)) for each in value) if isinstance(value, list | tuple | set | frozenset) else value
