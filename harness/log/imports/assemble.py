"""Converts documents to events: first the initial list, then changes."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec

from harness.kube.resources import BY_NAME, PROXIED
from harness.log import initial_events_end
from harness.log.events import OBJECT_TYPES, Event
from harness.log.imports import kwok
from harness.log.imports.documents import Document
from harness.log.kubectl import RESOURCES, STEP_NS

Key = tuple[str, str, str]
_encode = msgspec.json.Encoder().encode


class Assembler:
    """Converts documents to `events`; `dropped` counts what recordings cannot hold, by description."""

    def __init__(self, start: datetime) -> None:
        self.events: list[Event] = []
        self.dropped: Counter[str] = Counter()
        self.documents = 0
        self._start = start
        self._objects: dict[Key, dict[str, Any]] = {}
        self._t = 0
        self._listing = True

    def add(self, document: Document) -> None:
        """Add one document; ValueError, with a message, if it is invalid."""
        self.documents += 1
        value = document.value
        kind = value.get("kind")
        if value.get("format") is not None:
            raise ValueError("this is already a recording, or a part of one, and needs no import")
        if kwok.is_patch(value):
            self._patch(kwok.resource_patch(value))
        elif isinstance(kind, str) and kind.endswith("List"):
            self._list(kind, value.get("items"))
        elif "type" in value and isinstance(value.get("object"), dict):
            self._watched(value["type"], value["object"])
        elif isinstance(kind, str) and kind:
            self._listed(value)
        else:
            raise ValueError("neither an object with a kind, nor a List, nor a watch event")

    def finish(self) -> None:
        """End the initial list, if it has not ended."""
        if self._listing:
            self._listing = False
            seen = {resource for resource, *_ in self._objects}
            for resource in (*PROXIED, *sorted(seen.difference(PROXIED))):
                self.events.append(initial_events_end(len(self.events) + 1, self._t, resource))

    def _list(self, kind: str, items: Any) -> None:
        if items is not None and not isinstance(items, list):
            raise ValueError(f"items is {type(items).__name__}; a list is needed")
        for number, item in enumerate(items or (), 1):
            if not isinstance(item, dict):
                raise ValueError(f"item {number} is {item!r}; an object is needed")
            # Lists of one kind omit the kind of their items.
            own = {"kind": kind.removesuffix("List")} if kind != "List" and "kind" not in item else {}
            try:
                self._listed(own | item)
            except ValueError as error:
                raise ValueError(f"item {number}: {error}") from None

    def _listed(self, manifest: dict[str, Any]) -> None:
        """Add an object of a dump: new, or a repetition."""
        resource = self._place(manifest)
        if resource is None:
            return
        known = self._objects.get(_key(resource, manifest))
        if known is None:
            self._change("ADDED", resource, manifest)
        elif _stripped(manifest) == known:
            self.dropped["duplicate"] += 1
        else:
            raise ValueError(f"{'/'.join(_key(resource, manifest))} occurs twice with different contents")

    def _watched(self, kind: Any, manifest: dict[str, Any]) -> None:
        """Add an event of a watch; after the leading ADDED events, they are spaced one second apart."""
        if kind not in OBJECT_TYPES:
            self.dropped[f"watch event {kind}"] += 1
            return
        resource = self._place(manifest)
        if resource is None:
            return
        if kind != "ADDED":
            self.finish()
        if not self._listing:
            self._t += STEP_NS
        self._change(kind, resource, manifest)

    def _patch(self, patch: kwok.ResourcePatch) -> None:
        self.finish()
        resource = patch.known
        if resource is None:
            self.dropped[f"change of {'.'.join(filter(None, (patch.resource.resource, patch.resource.group)))}"] += 1
            return
        self._t = max(self._t, patch.durationNanosecond)
        key = resource, patch.target.namespace, patch.target.name
        known = self._objects.get(key)
        if patch.method == "create":
            self._change("ADDED" if known is None else "MODIFIED", resource, patch.template or {})
        elif known is None:
            raise ValueError(f"{patch.method} of {'/'.join(filter(None, key))}, which does not exist")
        elif patch.method == "delete":
            self._change("DELETED", resource, known)
        else:
            self._change("MODIFIED", resource, kwok.patched(resource, known, patch.template or {}))

    def _place(self, manifest: dict[str, Any]) -> str | None:
        """The manifest's resource; None, and counted, if recordings do not hold it."""
        kind, version = manifest.get("kind"), manifest.get("apiVersion")
        resource = RESOURCES.get(kind) if isinstance(kind, str) else None
        group = str(version).rpartition("/")[0] if version is not None else None
        if resource is None or group not in (None, BY_NAME[resource].group):
            self.dropped[f"kind {kind}" if resource is None else f"kind {kind} of {group}"] += 1
            return None
        return resource

    def _change(self, kind: str, resource: str, manifest: dict[str, Any]) -> None:
        manifest = _stripped(manifest)
        key = _key(resource, manifest)
        if kind == "DELETED":
            self._objects.pop(key, None)
        else:
            self._objects[key] = manifest
        raw = msgspec.Raw(kwok.absolute_times(_encode(manifest), self._start))
        self.events.append(Event(len(self.events) + 1, self._t, kind, resource, raw))


def _key(resource: str, manifest: dict[str, Any]) -> Key:
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"{manifest.get('kind') or resource} without a metadata.name")
    namespace = manifest["metadata"].get("namespace") or ""
    if not isinstance(namespace, str):
        raise ValueError(f"metadata.namespace is {namespace!r}; text is needed")
    return resource, namespace, name


def _stripped(manifest: dict[str, Any]) -> dict[str, Any]:
    """Without managedFields, which recordings do not hold."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return manifest
    return manifest | {"metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}
