"""Assertions of cases beyond packets: virtual servers, ipsets, metrics, one firewall rule."""

from __future__ import annotations

import re
from typing import Any

OF_SERVERS = ("vs_timeout", "vs_flags")
"""Required properties of every virtual server: persistence in seconds, names of flags."""
_LABEL = re.compile(r'(\w+)\s*=\s*"([^"]*)"')


def judged_asserts(asserts: dict[str, Any], facts: dict[str, Any], partial: bool, number: int) -> list[dict[str, Any]]:
    """A verdict for each assertion; an assertion about something not observable has not passed."""
    return [
        {"name": name, "stage": number, "expected": wanted, "actual": facts.get(name)}
        | {"passed": name in facts and _holds(name, wanted, facts[name], partial)}
        for name, wanted in asserts.items()
    ]


def _holds(name: str, wanted: Any, found: Any, partial: bool) -> bool:
    if name in OF_SERVERS:
        return bool(found) and all(_normal(value) == _normal(wanted) for value in found.values())
    if not isinstance(wanted, dict):
        return bool(wanted == found)
    if name == "metrics":
        by_labels = {_series(key): value for key, value in found.items()}
        return all(by_labels.get(_series(key)) == value for key, value in wanted.items())
    if name == "ipsets":
        return all(_entries_hold(_normal(value), _normal(_set(found, key)), partial) for key, value in wanted.items())
    wanted, found = ({_bare(key): _normal(value) for key, value in each.items()} for each in (wanted, found))
    return bool(wanted == found if not partial else wanted.items() <= found.items())


def _set(sets: dict[str, list[str]], name: str) -> list[str]:
    """Entries of a set, which in IPv6 may have a different name than in the case (DS-03)."""
    return sets.get(name, sets.get(name.replace("KUBE-", "KUBE-6-", 1)[:31], []))


def _bare(text: str) -> str:
    """A socket without the brackets of IPv6."""
    return text.replace("[", "").replace("]", "")


def _entries_hold(wanted: Any, found: Any, partial: bool) -> bool:
    """All of them; if the case lists only some, no others, and none of a set that it lists as empty."""
    return set(wanted) <= set(found) if partial and wanted and isinstance(wanted, list) else bool(wanted == found)


def _series(text: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """A metric's name and labels, without the label for the family, which newer versions add."""
    name, _, labels = text.partition("{")
    return name, frozenset(pair for pair in _LABEL.findall(labels) if pair[0] != "ip_family")


def _normal(value: Any) -> Any:
    return sorted(_bare(str(each)) for each in value) if isinstance(value, list | tuple | set | frozenset) else value
