"""The expected state of the cluster, and of a few Services alone, which is enough to predict the effect of a change.

The oracle computes everything from scratch, which takes seconds for a large cluster and no time for the Services that
an event touches.  Services depend on each other only through addresses that several of them claim: a part of the
cluster may be wrong about such a destination, so only the whole cluster decides that something is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec

from harness.judge.behaviour import Behaviour, Key
from harness.judge.oracle import Oracle, Settings
from harness.kube.resources import SERVICE_NAME
from harness.log.events import OBJECT_TYPES, Event

Name = tuple[str, str]
Entry = Key | tuple[int, int]
"""A destination, or (protocol, port) of a node port."""
FAMILIES = (4, 6)


class ExpectedHistory:
    """Processes events; without `node` the first Node is used."""

    def __init__(self, node: str | None, settings: Settings) -> None:
        self.whole = Oracle(node, settings)
        self._settings = settings
        self._services: dict[Name, Event] = {}
        self._slices: dict[Name, Event] = {}
        self._of_service: dict[Name, set[Name]] = {}
        self._owner: dict[Name, Name] = {}
        self._node_event: Event | None = None

    def observe(self, event: Event) -> None:
        """Process one event."""
        self.whole.observe(event)
        if event.type not in OBJECT_TYPES:
            return
        meta = _metadata(event)
        name = meta.get("namespace") or "", meta["name"]
        if event.resource == "services":
            _keep(self._services, name, event)
        elif event.resource == "endpointslices":
            _keep(self._slices, name, event)
            self._own(name, meta, event.type == "DELETED")
        elif event.resource == "nodes" and meta["name"] == self.whole.node_name:
            self._node_event = event if event.type != "DELETED" else None

    def _own(self, name: Name, meta: dict[str, Any], gone: bool) -> None:
        if name in self._owner:
            self._of_service[self._owner.pop(name)].discard(name)
        service = (meta.get("labels") or {}).get(SERVICE_NAME)
        if service and not gone:
            self._owner[name] = name[0], service
            self._of_service.setdefault((name[0], service), set()).add(name)

    def settle(self, also: Iterable[str]) -> None:
        """Fix the node's addresses: those in its Node object now, and `also` those of its interfaces."""
        manifest = msgspec.json.decode(self._node_event.object) if self._node_event else {}
        listed = (manifest.get("status") or {}).get("addresses") or ()
        named = [each["address"] for each in listed if each.get("type") in ("InternalIP", "ExternalIP")]
        self._settings = self.whole.settings = replace(self._settings, local_addresses=(*named, *also))

    def touched(self, event: Event) -> frozenset[Name] | None:
        """The Services that an event not yet observed may change; None for all of them."""
        if event.type not in OBJECT_TYPES:
            return frozenset()
        meta = _metadata(event)
        name = meta.get("namespace") or "", meta["name"]
        if event.resource == "services":
            return frozenset({name})
        if event.resource == "endpointslices":
            service = (meta.get("labels") or {}).get(SERVICE_NAME)
            owners = {(name[0], service)} if service else set()
            return frozenset(owners | ({self._owner[name]} if name in self._owner else set()))
        own = event.resource == "nodes" and meta["name"] == self.whole.node_name
        return None if own and self._node_changes(event) else frozenset()

    def _node_changes(self, event: Event) -> bool:
        """Whether the fields of its Node that a proxy reads have changed."""
        if event.type == "DELETED" or self._node_event is None:
            return True
        return _facts(event) != _facts(self._node_event)

    def part(self, names: Iterable[Name] | None) -> Oracle:
        """An oracle for some Services, or the one for the whole cluster."""
        if names is None:
            return self.whole
        oracle = Oracle(self.whole.node_name, self._settings)
        found = [self._node_event] if self._node_event else []
        for name in names:
            found += [self._services[name]] if name in self._services else []
            found += [self._slices[each] for each in sorted(self._of_service.get(name, ()))]
        for event in found:
            oracle.observe(event)
        return oracle


def behaviours(oracle: Oracle, mode: str) -> dict[int, Behaviour]:
    """The expected behaviour by family."""
    return {family: oracle.behaviour(family, mode) for family in FAMILIES}


def changed(before: Behaviour, after: Behaviour) -> set[Entry]:
    """The entries that differ."""
    found: set[Entry] = set()
    for table in ("destinations", "nodeports"):
        old, new = getattr(before, table), getattr(after, table)
        found |= {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return found


def _keep(held: dict[Name, Event], name: Name, event: Event) -> None:
    if event.type == "DELETED":
        held.pop(name, None)
    else:
        held[name] = event


def _metadata(event: Event) -> dict[str, Any]:
    meta: dict[str, Any] = msgspec.json.decode(event.object)["metadata"]
    return meta


def _facts(event: Event) -> tuple[Any, ...]:
    manifest = msgspec.json.decode(event.object)
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    return manifest["metadata"].get("labels"), spec.get("podCIDR"), spec.get("podCIDRs"), status.get("addresses")
