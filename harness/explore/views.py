"""The page's data for a point in time as JSON: Services, endpoints, differences.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from harness.explore.history import History, Moment, Objects
from harness.kube.resources import SERVICE_NAME
from harness.log.difference import differences
from harness.log.events import OBJECT_TYPES, Event
from harness.log.state import Key, key_of

BUCKETS = 240
SERVICE_COLUMNS = ("namespace", "name", "type", "cluster_ip", "ports", "ready", "serving", "all")
ENDPOINT_COLUMNS = ("addresses", "ready", "serving", "terminating", "node", "zone", "target", "slice")


class Count(NamedTuple):
    """Endpoints of a Service by condition; a terminating one that still serves is `serving`."""

    ready: int = 0
    serving: int = 0
    all: int = 0


class _Conditions(msgspec.Struct, gc=False):
    ready: bool | None = None
    serving: bool | None = None


class _Endpoint(msgspec.Struct, gc=False):
    conditions: _Conditions | None = None


class _Metadata(msgspec.Struct, gc=False):
    labels: dict[str, str] | None = None


class _Slice(msgspec.Struct, gc=False):
    metadata: _Metadata
    endpoints: list[_Endpoint] | None = None


_slice = msgspec.json.Decoder(_Slice).decode


class ManifestFacts:
    """Facts of the events' manifests, decoded once: names of Services, each slice's Service and endpoints."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._known: dict[int, tuple[msgspec.Raw, str, Count]] = {}
        self._names: dict[Key, str] = {}
        self._slices: dict[tuple[str, str], dict[Key, None]] = {}
        self._ordered: list[tuple[str, Key]] = []
        self.learn(events)

    def learn(self, events: Iterable[Event]) -> None:
        """Add the objects of further events."""
        known = len(self._names)
        for event in events:
            if event.type in OBJECT_TYPES:
                self._note(key_of(event), event.object)
        if len(self._names) > known:
            self._ordered = sorted((text, key) for key, text in self._names.items())

    def _note(self, key: Key, manifest: msgspec.Raw) -> None:
        if key[0] == "services":
            self._names.setdefault(key, f"{key[1]}/{key[2]}")
        elif key[0] == "endpointslices" and (owner := self.owner(manifest)):
            self._slices.setdefault((key[1], owner), {}).setdefault(key)

    def services(self, objects: Objects, filter_: str) -> list[Key]:
        """Keys of the Services that exist in `objects` and whose namespace/name contains `filter_`, in that order."""
        return [key for text, key in self._ordered if filter_ in text and key in objects]

    def slices(self, objects: Objects, namespace: str, name: str) -> list[Key]:
        """Keys of a Service's slices in `objects`, sorted."""
        ever = self._slices.get((namespace, name), ())
        return sorted(key for key in ever if key in objects and self.owner(objects[key]) == name)

    def owner(self, manifest: msgspec.Raw) -> str:
        """Name of the slice's Service, in the slice's namespace; "" if it names none."""
        return self._of(manifest)[1]

    def count(self, manifest: msgspec.Raw) -> Count:
        """The number of endpoints it lists."""
        return self._of(manifest)[2]

    def _of(self, manifest: msgspec.Raw) -> tuple[msgspec.Raw, str, Count]:
        known = self._known.get(id(manifest))
        if known is None:  # the manifest is kept in the cache, so that its id is not reused
            known = self._known[id(manifest)] = manifest, *_facts(manifest)
        return known


def _facts(manifest: msgspec.Raw) -> tuple[str, Count]:
    try:
        found = _slice(manifest)
    except msgspec.DecodeError:
        return "", Count()  # `harness validate` reports where and why it is invalid
    conditions = [end.conditions or _Conditions() for end in found.endpoints or ()]
    ready = [each.ready is not False for each in conditions]
    serving = [(each.ready if each.serving is None else each.serving) is not False for each in conditions]
    labels = found.metadata.labels or {}
    return labels.get(SERVICE_NAME, ""), Count(sum(ready), sum(serving), len(conditions))


def overview(history: History, end: int = 0) -> dict[str, Any]:
    """The source, its header, and the events' distribution over a time axis that reaches at least `end` ns."""
    end = max(end, history.duration)
    return {
        "path": history.path,
        "header": msgspec.to_builtins(history.header),
        "sha256": history.sha256,
        "events": len(history),
        "initial": history.initial,
        "duration_ns": end,
        "density": history.density(BUCKETS, end),
    }


def services(objects: Objects, facts: ManifestFacts, filter_: str, first: int, count: int) -> dict[str, Any]:
    """Rows `first` to `first + count` of the Services whose namespace/name contains `filter_`, in order of name."""
    names = facts.services(objects, filter_)
    return {
        "total": len(names),
        "first": first,
        "rows": [_row(key, objects, facts) for key in names[first : first + count]],
    }


def service(objects: Objects, facts: ManifestFacts, namespace: str, name: str) -> dict[str, Any] | None:
    """One Service with its endpoints; None if there is none."""
    raw = objects.get(("services", namespace, name))
    if raw is None:
        return None
    slices = [_decode(objects[key]) for key in facts.slices(objects, namespace, name)]
    ends = [_endpoint(each, slice_) for slice_ in slices for each in slice_.get("endpoints") or ()]
    return {"manifest": _decode(raw), "endpoints": ends}


def service_of(moment: Moment, facts: ManifestFacts) -> tuple[str, str] | None:
    """Namespace and name of the Service that an event concerns; None for nodes, pods and markers."""
    if moment.key is None or moment.key[0] not in ("services", "endpointslices"):
        return None
    resource, namespace, name = moment.key
    if resource == "services":
        return namespace, name
    manifest = moment.after or moment.before
    owner = facts.owner(manifest) if manifest else None
    return (namespace, owner) if owner else None


def change(moment: Moment, facts: ManifestFacts) -> dict[str, Any]:
    """One event, with the fields it changed, as reported by `harness diff`."""
    before = {moment.key: bytes(moment.before)} if moment.key and moment.before is not None else {}
    after = {moment.key: bytes(moment.after)} if moment.key and moment.after is not None else {}
    found = [msgspec.to_builtins(each) for each in differences(before, after)]
    return event_row(moment.index + 1, moment.event) | {
        "service": "/".join(service_of(moment, facts) or ()) or None,
        "changes": found,
    }


def event_row(count: int, event: Event) -> dict[str, Any]:
    """One event as a line of a list; `count` is the number of events up to and including it."""
    return {
        "count": count,
        "seq": event.seq,
        "t_ns": event.t,
        "type": event.type,
        "object": _fault(event.object) if event.type == "FAULT" else _object(event),
    }


def _object(event: Event) -> str:
    """Resource, namespace and name; a marker without an object has only a resource."""
    try:
        resource, namespace, name = key_of(event)
    except ValueError:
        return event.resource
    return f"{resource} {'/'.join(filter(None, (namespace, name)))}"


def _fault(marker: msgspec.Raw) -> str:
    """The action of a chaos run: `inject pod-kill: web-9`."""
    fields = _decode(marker)
    done = " ".join(str(fields[name]) for name in ("phase", "fault") if fields.get(name))
    hit = (fields.get(name) for name in ("pods", "nodes"))
    targets = ", ".join(str(each) for names in hit if isinstance(names, list) for each in names)
    return ": ".join(filter(None, (done, targets))) or "fault"


def counts(objects: Iterable[Key]) -> dict[str, int]:
    """The number of objects of each resource."""
    return dict(Counter(key[0] for key in objects))


def _row(key: Key, objects: Objects, facts: ManifestFacts) -> dict[str, Any]:
    spec = _decode(objects[key]).get("spec") or {}
    counts = [facts.count(objects[each]) for each in facts.slices(objects, key[1], key[2])]
    ends = Count(*map(sum, zip(*counts, strict=True))) if counts else Count()
    ports = [
        f"{port.get('port')}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports") or ()
    ]
    return {
        "namespace": key[1],
        "name": key[2],
        "type": spec.get("type") or "ClusterIP",
        "cluster_ip": spec.get("clusterIP") or "",
        "ports": ",".join(ports),
        **ends._asdict(),
    }


def _endpoint(end: dict[str, Any], slice_: dict[str, Any]) -> dict[str, Any]:
    conditions = end.get("conditions") or {}
    ready = conditions.get("ready") is not False
    return {
        "addresses": ", ".join(end.get("addresses") or ()),
        "ready": ready,
        "serving": conditions.get("serving", ready) is not False,
        "terminating": conditions.get("terminating") is True,
        "node": end.get("nodeName") or "",
        "zone": end.get("zone") or "",
        "target": (end.get("targetRef") or {}).get("name") or "",
        "slice": (slice_.get("metadata") or {}).get("name") or "",
    }


def _decode(manifest: msgspec.Raw) -> dict[str, Any]:
    found = msgspec.json.decode(manifest)
    return found if isinstance(found, dict) else {}
