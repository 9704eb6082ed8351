"""Which endpoints may be used, from manifests as they are (KEP-1669, KEP-2433, KEP-4444)."""

from __future__ import annotations

from typing import NamedTuple


class Hints(NamedTuple):
    """The node and the zone whose hints are looked at, empty where they are not."""

    node: str
    zone: str


def ready(endpoint: dict) -> bool:
    """Nil counts as ready."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def draining(endpoint: dict) -> bool:
    """Terminating and still serving."""
    conditions = endpoint.get("conditions") or {}
    return conditions.get("terminating") is True and conditions.get("serving") is not False


def usable(endpoint: dict) -> bool:
    """May ever get traffic."""
    return ready(endpoint) or draining(endpoint)


def local_set(endpoints: dict, node: str | None) -> list:
    """Ready endpoints of this node, else its draining ones."""
    here = {target: e for target, e in endpoints.items() if node and e.get("nodeName") == node}
    return [t for t, e in here.items() if ready(e)] or [t for t, e in here.items() if draining(e)]


def cluster_set(endpoints: dict, wanted_hints: Hints) -> list:
    """Ready endpoints, narrowed by hints that all of them have; else all draining ones."""
    chosen = {target: e for target, e in endpoints.items() if ready(e)}
    if not chosen:
        return [target for target, e in endpoints.items() if draining(e)]
    for kind, wanted in (("forNodes", wanted_hints.node), ("forZones", wanted_hints.zone)):
        hints = {t: [h["name"] for h in (e.get("hints") or {}).get(kind) or ()] for t, e in chosen.items()}
        if wanted and all(hints.values()) and any(wanted in names for names in hints.values()):
            return [target for target, names in hints.items() if wanted in names]
    return list(chosen)
