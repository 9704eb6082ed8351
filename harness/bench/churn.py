"""Changes of a cluster as batches of events; each kind touches Services spread over the whole cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from harness.bench.rows import CHANGES
from harness.kube.resources import SERVICE_NAME, Manifest
from harness.log.events import Event

ChurnEvent = tuple[str, str, Manifest]
"""(event type, resource, manifest)."""
SPREAD = 7919
"""A prime, so that consecutive changes are far apart in the cluster."""
STORM, DELETED = 20, 10
"""One of this many Services flaps, or is deleted, at once."""
KEPT = 12_000
"""Maximum number of slices kept for changes, which limits memory use for large clusters."""


class ChurnTargets(NamedTuple):
    """The objects to change: slices of Services with a cluster IP and endpoints, each with its Service."""

    slices: list[Manifest]
    services: list[Manifest]


class Collector:
    """Collects objects from an initial list that passes through."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], bytes] = {}
        self._found: list[tuple[bytes, bytes]] = []

    def watch(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events, unchanged."""
        for event in events:
            if event.type == "ADDED" and event.resource == "services":
                self._service(event)
            elif event.type == "ADDED" and event.resource == "endpointslices" and len(self._found) < KEPT:
                self._slice(event)
            yield event

    def _service(self, event: Event) -> None:
        manifest = msgspec.json.decode(event.object)
        spec, meta = manifest["spec"], manifest["metadata"]
        if spec.get("clusterIP", "None") != "None" and spec.get("internalTrafficPolicy") != "Local":
            self._services[meta["namespace"], meta["name"]] = bytes(event.object)

    def _slice(self, event: Event) -> None:
        manifest = msgspec.json.decode(event.object)
        meta = manifest["metadata"]
        service = self._services.get((meta["namespace"], (meta.get("labels") or {}).get(SERVICE_NAME, "")))
        if service and manifest.get("endpoints"):
            self._found.append((bytes(event.object), service))

    def cluster(self) -> ChurnTargets:
        """The collected objects, one slice per Service."""
        once = {service: piece for piece, service in self._found}
        return ChurnTargets([msgspec.json.decode(p) for p in once.values()], [msgspec.json.decode(s) for s in once])


def batches(churn: str, cluster: ChurnTargets) -> Iterator[list[ChurnEvent]]:
    """The batches of one kind of churn."""
    count = CHANGES[churn]
    if not count or not cluster.slices:
        return
    made = {"steady": _steady, "rolling-update": _rolling, "flap-storm": _storm, "mass-delete": _deleted}[churn]
    for number, batch in zip(range(count), made(cluster), strict=False):
        for _, _, manifest in batch:
            manifest["metadata"]["resourceVersion"] = str(10**9 + number)
        yield batch


def _at(cluster: ChurnTargets, number: int) -> Manifest:
    return cluster.slices[number * SPREAD % len(cluster.slices)]


def _flip(piece: Manifest) -> ChurnEvent:
    """The first endpoint becomes not ready, or ready again."""
    conditions = piece["endpoints"][0].setdefault("conditions", {})
    ready = not conditions.get("ready", True)
    conditions |= {"ready": ready, "serving": ready, "terminating": False}
    return "MODIFIED", "endpointslices", piece


def _steady(cluster: ChurnTargets) -> Iterator[list[ChurnEvent]]:
    for number in range(10**9):
        yield [_flip(_at(cluster, number))]


def _rolling(cluster: ChurnTargets) -> Iterator[list[ChurnEvent]]:
    for number in range(10**9):
        piece = _at(cluster, number)
        for turn in range(min(5, len(piece["endpoints"]))):
            yield from _replaced(piece, number, turn)


def _replaced(piece: Manifest, number: int, turn: int) -> Iterator[list[ChurnEvent]]:
    """Add a new pod beside the old one, drain the old one, and remove it."""
    old = piece["endpoints"][0]
    address = f"10.127.{number % 250}.{1 + turn}"
    new = {**old, "addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}
    piece["endpoints"].append(new)
    yield [("MODIFIED", "endpointslices", piece)]
    piece["endpoints"][0] = {**old, "conditions": {"ready": False, "serving": True, "terminating": True}}
    yield [("MODIFIED", "endpointslices", piece)]
    del piece["endpoints"][0]
    yield [("MODIFIED", "endpointslices", piece)]


def _storm(cluster: ChurnTargets) -> Iterator[list[ChurnEvent]]:
    flapping = cluster.slices[::STORM]
    while True:
        yield [_flip(piece) for piece in flapping]


def _deleted(cluster: ChurnTargets) -> Iterator[list[ChurnEvent]]:
    pairs = list(zip(cluster.slices, cluster.services, strict=True))
    for number in range(DELETED):
        gone = pairs[number::DELETED]
        yield [
            change
            for piece, service in gone
            for change in (("DELETED", "endpointslices", piece), ("DELETED", "services", service))
        ]
