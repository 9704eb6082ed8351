"""Selects the endpoints that a service port's traffic may go to, by readiness, termination, zone and locality.

Rules TERM, TOPO, ETP and ITP of kube-proxy (KEP-1669, KEP-2433, KEP-4444): fallback to
terminating endpoints is all or nothing, and hints only filter the cluster-wide set.
"""

from __future__ import annotations

import msgspec

from engine.model import Endpoint, Target

Endpoints = dict[Target, Endpoint]


class Selection(msgspec.Struct, frozen=True, gc=False):
    """Sorted targets for cluster-wide and for local traffic; `any_usable` covers all nodes."""

    cluster: tuple[Target, ...]
    local: tuple[Target, ...]
    any_usable: bool


class Hints(msgspec.Struct, frozen=True, gc=False):
    """The node and zone whose hints are used; empty if hints are not used (TOPO-03 to TOPO-05)."""

    node: str = ""
    zone: str = ""


def select(endpoints: Endpoints, node: str | None, hints: Hints, *, cluster: bool, local: bool) -> Selection:
    """Select the sets that the policies need; a set that no policy needs is empty (TERM-02..04)."""
    cluster_targets = _cluster(endpoints, hints) if cluster else ()
    if not local:
        return Selection(cluster_targets, (), bool(cluster_targets))
    here = {target: e for target, e in endpoints.items() if node and e.node == node}
    any_usable = bool(cluster_targets) or any(e.usable for e in endpoints.values())
    return Selection(cluster_targets, local_targets(here), any_usable)


def local_targets(here: Endpoints) -> tuple[Target, ...]:
    """The local set of a node with these endpoints (TERM-03)."""
    return _ready_or_terminating(here, _ready(here))


def _ready(endpoints: Endpoints) -> list[Target]:
    return [target for target, endpoint in endpoints.items() if endpoint.ready]


def _ready_or_terminating(endpoints: Endpoints, ready: list[Target]) -> tuple[Target, ...]:
    if not ready:
        ready = [target for target, endpoint in endpoints.items() if endpoint.usable]
    return tuple(sorted(ready))


def _cluster(endpoints: Endpoints, hints: Hints) -> tuple[Target, ...]:
    ready = _ready(endpoints)
    return _ready_or_terminating(endpoints, _hinted(endpoints, ready, hints))


def _hinted(endpoints: Endpoints, ready: list[Target], wanted_hints: Hints) -> list[Target]:
    """Filter by node hints if every ready endpoint has one and one matches, else by zone hints, else not at all."""
    first = endpoints[ready[0]] if ready else None
    if first is None or not (first.nodes or first.zones):  # nearly always
        return ready
    for wanted, hints_of in ((wanted_hints.node, _node_hints), (wanted_hints.zone, _zone_hints)):
        if not wanted or not hints_of(first):
            continue
        hints = [hints_of(endpoints[target]) for target in ready]
        if all(hints) and any(wanted in hint for hint in hints):
            return [target for target, hint in zip(ready, hints, strict=True) if wanted in hint]
    return ready


def _node_hints(endpoint: Endpoint) -> tuple[str, ...]:
    return endpoint.nodes


def _zone_hints(endpoint: Endpoint) -> tuple[str, ...]:
    return endpoint.zones
