"""Events from kubectl's output: `get -o json`, or `get --watch --output-watch-events -o json`.

Neither contains times: a dump is an initial list at 0; in a watch, the leading ADDED events are that list, and later
events are spaced one second apart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from harness.kube.resources import PROXIED, RECORDED
from harness.log.errors import RecordingError
from harness.log.events import Event, JsonObject
from harness.log.writer import initial_events_end

RESOURCES = {kind.kind: kind.resource for kind in RECORDED}
STEP_NS = 1_000_000_000
ALL = "kubectl get services,endpointslices,nodes -A -o json"


def events(path: str, data: bytes, note: Callable[[str], None]) -> Iterator[Event]:
    """Events of the document(s) in `data`; RecordingError with the line of the error.

    `note` is called with warnings about truncated input, which is used as far as it goes, and missing objects.
    """
    seq, t, listing, listed = 0, 0, True, _Listed()
    for kind, item in _items(path, data, note):
        resource = _resource(path, item)
        if listing and kind != "ADDED":
            yield from _listed(seq)
            seq, listing = seq + len(PROXIED), False
        listed.add(resource, item)
        seq += 1
        t = t if listing else t + STEP_NS
        yield Event(seq, t, kind, resource, msgspec.Raw(msgspec.json.encode(item)))
    if listing:
        yield from _listed(seq)
    if missing := listed.missing():
        note(f"{path}: {missing}; for complete output: {ALL}")


def _listed(seq: int) -> Iterator[Event]:
    for number, resource in enumerate(PROXIED, seq + 1):
        yield initial_events_end(number, 0, resource)


class _Listed:
    """The kinds of objects that occur."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._unaddressed = 0

    def add(self, resource: str, item: JsonObject) -> None:
        self._counts[resource] += 1
        if resource == "services" and isinstance(spec := item.get("spec"), dict):
            self._unaddressed += not spec.get("clusterIP") and spec.get("type") != "ExternalName"

    def missing(self) -> str:
        """A message about missing objects, or ""."""
        if not self._counts["services"]:
            return "no Services, so there is nothing to program"
        found = []
        if self._unaddressed:
            found.append(
                f"Services without clusterIP: {self._unaddressed}, as in manifests not yet applied to a cluster"
            )
        if not self._counts["endpointslices"]:
            found.append("no EndpointSlices, so no Service has endpoints")
        if not self._counts["nodes"]:
            found.append("no Nodes, so the node's addresses and zone are unknown")
        return "; ".join(found)


def _items(path: str, data: bytes, note: Callable[[str], None]) -> Iterator[tuple[str, JsonObject]]:
    listed: dict[tuple[Any, Any, Any], JsonObject] = {}
    for document in _documents(path, data):
        if str(document.get("kind", "")).endswith("List"):
            for item in document.get("items") or ():
                item = _with_kind(document["kind"].removesuffix("List"), item)
                _once(path, listed, item)
                yield "ADDED", item
        elif "type" in document and isinstance(document.get("object"), dict):
            if document["type"] == "ERROR":
                note(f"{path}: read up to where the watch ended with ERROR {_said(document['object'])}")
                return
            if document["type"] != "BOOKMARK":
                yield document["type"], document["object"]
        elif document.get("kind") in RESOURCES:
            _once(path, listed, document)
            yield "ADDED", document
        else:
            raise RecordingError(path, None, "neither a List, nor a watch event, nor an object that kubectl prints")


def _with_kind(kind: str, item: JsonObject) -> JsonObject:
    """Add the kind to items of a ServiceList and the like, which do not repeat it."""
    return {"kind": kind, **item} if kind and isinstance(item, dict) else item


def _once(path: str, listed: dict[tuple[Any, Any, Any], JsonObject], item: JsonObject) -> None:
    """RecordingError for a second, different version of an object."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        return
    key = item.get("kind"), metadata.get("namespace"), metadata.get("name")
    if listed.setdefault(key, item) != item:
        name = "/".join(str(part) for part in key[1:] if part)
        why = "as in a watch without event types; add --output-watch-events to kubectl get --watch"
        raise RecordingError(path, None, f"{key[0]} {name} occurs twice, {why}")


def _said(status: JsonObject) -> str:
    return f"{status.get('code', '')} ({status.get('message', 'no reason given')})".strip()


def _documents(path: str, data: bytes) -> Iterator[JsonObject]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise RecordingError(path, data.count(b"\n", 0, error.start) + 1, "not UTF-8 text; JSON is needed") from None
    decoder, offset = json.JSONDecoder(), 0
    while offset < len(text):
        try:
            document, end = decoder.raw_decode(text, offset)
        except json.JSONDecodeError as error:
            line = text.count("\n", 0, error.pos) + 1
            raise RecordingError(path, line, f"not JSON: {error.msg}; the output may be truncated") from None
        if not isinstance(document, dict):
            raise RecordingError(path, text.count("\n", 0, offset) + 1, "a JSON object is needed")
        yield document
        offset = end
        while offset < len(text) and text[offset].isspace():
            offset += 1


def _resource(path: str, item: JsonObject) -> str:
    kind = item.get("kind") if isinstance(item, dict) else None
    if kind is None:
        raise RecordingError(path, None, f"an item without kind, which is not kubectl output; use: {ALL}")
    if kind not in RESOURCES:
        raise RecordingError(path, None, f"object of kind {kind!r}; only {', '.join(RESOURCES)} are replayed")
    return RESOURCES[kind]
