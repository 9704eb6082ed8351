"""Selects the usable endpoints from raw manifests (KEP-1669, KEP-2433, KEP-4444)."""

from __future__ import annotations

from typing import NamedTuple

from harness.judge.behaviour import Target
from harness.log.events import JsonObject


class Hints(NamedTuple):
    """The node and zone whose hints apply; empty if hints are ignored."""

    node: str
    zone: str


def ready(endpoint: JsonObject) -> bool:
    """Whether the endpoint is ready; nil counts as ready."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def may_serve(endpoint: JsonObject) -> bool:
    """Whether the endpoint serves; nil counts as serving."""
    return (endpoint.get("conditions") or {}).get("serving") is not False


def draining(endpoint: JsonObject) -> bool:
    """Whether the endpoint is terminating and still serving."""
    conditions = endpoint.get("conditions") or {}
    return conditions.get("terminating") is True and may_serve(endpoint)


def usable(endpoint: JsonObject) -> bool:
    """Whether the endpoint may receive traffic."""
    return ready(endpoint) or draining(endpoint)


def local_set(endpoints: dict[Target, JsonObject], node: str | None) -> list[Target]:
    """This node's ready endpoints, else its draining ones."""
    here = {target: e for target, e in endpoints.items() if node and e.get("nodeName") == node}
    return [t for t, e in here.items() if ready(e)] or [t for t, e in here.items() if draining(e)]


def cluster_set(endpoints: dict[Target, JsonObject], wanted_hints: Hints) -> list[Target]:
    """Ready endpoints, filtered by hints if all of them have any; else all draining ones."""
    chosen = {target: e for target, e in endpoints.items() if ready(e)}
    if not chosen:
        return [target for target, e in endpoints.items() if draining(e)]
    for kind, wanted in (("forNodes", wanted_hints.node), ("forZones", wanted_hints.zone)):
        hints = {t: [h["name"] for h in (e.get("hints") or {}).get(kind) or ()] for t, e in chosen.items()}
        if wanted and all(hints.values()) and any(wanted in names for names in hints.values()):
            return [target for target, names in hints.items() if wanted in names]
    return list(chosen)
