"""Response formats: plain JSON, a Table for kubectl, only metadata; each change is encoded once per format.

Objects are not sent as protobuf: a client that also accepts JSON gets JSON, others get 406, as from a server that does
not support protobuf.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from harness.apiserver import errors
from harness.apiserver.manifest import Object
from harness.apiserver.store import StoreChange
from harness.apiserver.tables import table
from harness.kube.resources import Kind
from harness.log.events import INITIAL_EVENTS_END

ACCEPTED = "application/json, application/json;stream=watch"
_PLAIN = ("*/*", "application/*", "application/json")
_encode = msgspec.json.encode


class Form(NamedTuple):
    """`shape` is object, table or metadata; `include` is the content of table rows: None, Metadata or Object."""

    shape: str = "object"
    include: str = "Metadata"

    @property
    def metadata(self) -> bool:
        """Whether only metadata is requested."""
        return self.shape == "metadata"


PLAIN = Form()


def form_of(accept: str, include: str | None) -> Form:
    """The first supported format of an Accept header; StatusError 406 if there is none."""
    for choice in accept.split(",") if accept.strip() else ["*/*"]:
        media, *parameters = (part.strip() for part in choice.split(";"))
        asked = dict(part.partition("=")[::2] for part in parameters)
        if media not in _PLAIN:
            continue
        match asked.get("as"):
            case None:
                return PLAIN
            case "Table" if asked.get("g") == "meta.k8s.io" and asked.get("v") == "v1":
                return Form("table", include or "Metadata")
            case "PartialObjectMetadata" | "PartialObjectMetadataList" if asked.get("v") == "v1":
                return Form("metadata")
    raise errors.not_acceptable(ACCEPTED)


def one(found: Object, form: Form) -> bytes:
    """One object."""
    if form.shape == "table":
        return _encode(table(found.kind, [found], str(found.revision), form.include, header=True))
    return metadata_only(found) if form.metadata else found.raw


def many(kind: Kind, objects: Iterable[Object], metadata: dict[str, Any], form: Form) -> bytes:
    """A list; `metadata` is the list's own."""
    if form.shape == "table":
        made = table(kind, objects, metadata["resourceVersion"], form.include, header=True)
        return _encode(made | {"metadata": metadata})
    name, version = ("PartialObjectMetadataList", "meta.k8s.io/v1") if form.metadata else (None, kind.api_version)
    head = {"kind": name or f"{kind.kind}List", "apiVersion": version, "metadata": metadata}
    items = (metadata_only(found) if form.metadata else found.raw for found in objects)
    return _encode(head)[:-1] + b',"items":[' + b",".join(items) + b"]}\n"


def frame(change: StoreChange, type: str, form: Form, first: bool = False) -> bytes:
    """The watch event for `change` with the given type; encoded once and shared."""
    key = type, form, first and form.shape == "table"
    made = change.frames.get(key)
    if made is None:
        made = change.frames[key] = event(type, _shown(change, type), form, first)
    return made


def event(type: str, found: Object, form: Form, first: bool = False) -> bytes:
    """A watch event; only the first one of a Table contains the columns."""
    if form.shape == "table":
        body = _encode(table(found.kind, [found], str(found.revision), form.include, first))
    else:
        body = metadata_only(found) if form.metadata else found.raw.rstrip()
    return b'{"type":"%b","object":%b}\n' % (type.encode(), body)


def bookmark(kind: Kind, revision: int, form: Form, initial_end: bool = False) -> bytes:
    """A BOOKMARK event: everything up to `revision` has been sent."""
    metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    found: dict[str, Any] = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    if form.metadata:
        found |= {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    elif form.shape == "table":
        found = table(kind, [], str(revision), form.include, header=False) | {"rows": _bookmark_rows(found)}
    return _encode({"type": "BOOKMARK", "object": found}) + b"\n"


def failure(error: errors.StatusError) -> bytes:
    """An ERROR event, the last one of its watch."""
    return _encode({"type": "ERROR", "object": error.status()}) + b"\n"


def metadata_only(found: Object) -> bytes:
    """The object as PartialObjectMetadata."""
    metadata = found.manifest()["metadata"]
    return _encode({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})


def _shown(change: StoreChange, type: str) -> Object:
    """The object of an event: if it left the scope, its last state inside, with the new resourceVersion."""
    if type != "DELETED" or change.type == "DELETED" or change.previous is None:
        return change.object
    before = change.previous
    manifest = before.manifest()
    manifest["metadata"]["resourceVersion"] = str(change.revision)
    return Object(before.kind, before.namespace, before.name, change.revision, _encode(manifest))


def _bookmark_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A Table contains the bookmark's object in a row without cells, where clients expect its metadata."""
    return [{"cells": [], "object": found}]
