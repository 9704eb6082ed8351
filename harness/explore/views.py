"""The page's data for a point in time as JSON: Services, endpoints, differences.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from harness.explore.history import History, Moment, Objects
from harness.kube.resources import SERVICE_NAME
from harness.log.difference import differences
from harness.log.events import Event
from harness.log.state import Key, key_of

BUCKETS = 240


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


class Facts:
    """Each slice's Service ("" if it names none) and endpoints, decoded once per manifest."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[msgspec.Raw, str, Count]] = {}

    def owner(self, manifest: msgspec.Raw) -> str:
        """Name of the Service, in the slice's namespace."""
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


def overview(history: History) -> dict[str, Any]:
    """Data that does not change while the page is open: the source, its header, and the events' distribution."""
    return {
        "path": history.path,
        "header": msgspec.to_builtins(history.header),
        "sha256": history.sha256,
        "events": len(history),
        "initial": history.initial,
        "duration_ns": history.duration,
        "density": history.density(BUCKETS),
    }


def services(objects: Objects, facts: Facts, filter_: str, first: int, count: int) -> dict[str, Any]:
    """Rows `first` to `first + count` of the Services whose namespace/name contains `filter_`, in order of name."""
    names = sorted(key for key in objects if key[0] == "services" and filter_ in f"{key[1]}/{key[2]}")
    shown = names[first : first + count]
    ends = _endpoints_of({(key[1], key[2]) for key in shown}, objects, facts)
    return {
        "total": len(names),
        "first": first,
        "rows": [_row(key, objects[key], ends.get((key[1], key[2]), Count())) for key in shown],
    }


def service(objects: Objects, facts: Facts, namespace: str, name: str) -> dict[str, Any] | None:
    """One Service with its endpoints; None if there is none."""
    raw = objects.get(("services", namespace, name))
    if raw is None:
        return None
    slices = [_decode(objects[key]) for key in slices_of(objects, facts, namespace, name)]
    ends = [_endpoint(each, slice_) for slice_ in slices for each in slice_.get("endpoints") or ()]
    return {"manifest": _decode(raw), "endpoints": ends}


def slices_of(objects: Objects, facts: Facts, namespace: str, name: str) -> list[Key]:
    """Keys of the Service's EndpointSlices, sorted."""
    return sorted(
        key
        for key, raw in objects.items()
        if key[0] == "endpointslices" and key[1] == namespace and facts.owner(raw) == name
    )


def service_of(moment: Moment, facts: Facts) -> tuple[str, str] | None:
    """Namespace and name of the Service that an event concerns; None for nodes, pods and markers."""
    if moment.key is None or moment.key[0] not in ("services", "endpointslices"):
        return None
    resource, namespace, name = moment.key
    if resource == "services":
        return namespace, name
    manifest = moment.after or moment.before
    owner = facts.owner(manifest) if manifest else None
    return (namespace, owner) if owner else None


def change(moment: Moment, facts: Facts) -> dict[str, Any]:
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
    try:
        _, namespace, name = key_of(event)
    except ValueError:
        namespace = name = ""
    return {
        "count": count,
        "seq": event.seq,
        "t_ns": event.t,
        "type": event.type,
        "resource": event.resource,
        "object": "/".join(filter(None, (namespace, name))),
    }


def counts(objects: Iterable[Key]) -> dict[str, int]:
    """The number of objects of each resource."""
    return dict(Counter(key[0] for key in objects))


def _endpoints_of(names: set[tuple[str, str]], objects: Objects, facts: Facts) -> dict[tuple[str, str], Count]:
    found: dict[tuple[str, str], Count] = {}
    for (resource, namespace, _), raw in objects.items():
        if resource == "endpointslices" and (owner := (namespace, facts.owner(raw))) in names:
            found[owner] = Count(*map(sum, zip(found.get(owner, Count()), facts.count(raw), strict=True)))
    return found


def _row(key: Key, manifest: msgspec.Raw, ends: Count) -> dict[str, Any]:
    spec = _decode(manifest).get("spec") or {}
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
