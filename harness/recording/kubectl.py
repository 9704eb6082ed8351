"""Events out of what kubectl prints: `get -o json`, or `get --watch --output-watch-events -o json`.

Neither carries times: a dump is an initial list at 0; of a watch the leading ADDED run is that
list, and each later event is put one second after the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

from harness.events import Event
from harness.recording.errors import RecordingError
from harness.recording.writer import initial_events_end

KINDS = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes", "Pod": "pods"}
LISTED = ("nodes", "services", "endpointslices")
STEP_NS = 1_000_000_000


def events(path: str, data: bytes) -> Iterator[Event]:
    """Events of the document(s) in `data`; RecordingError with the line of what is wrong."""
    seq, t, listing = 0, 0, True
    for kind, item in _items(path, data):
        if listing and kind != "ADDED":
            for resource in LISTED:
                seq += 1
                yield initial_events_end(seq, t, resource)
            listing = False
        seq += 1
        t = t if listing else t + STEP_NS
        yield Event(seq, t, kind, _resource(path, item), msgspec.Raw(msgspec.json.encode(item)))
    if listing:
        for resource in LISTED:
            seq += 1
            yield initial_events_end(seq, t, resource)


def _items(path: str, data: bytes) -> Iterator[tuple[str, dict]]:
    for document in _documents(path, data):
        if document.get("kind", "").endswith("List"):
            for item in document.get("items") or ():
                yield "ADDED", item
        elif "type" in document and isinstance(document.get("object"), dict):
            if document["type"] != "BOOKMARK":
                yield document["type"], document["object"]
        elif document.get("kind") in KINDS:
            yield "ADDED", document
        else:
            raise RecordingError(path, None, "neither a List, nor a watch event, nor an object that kubectl prints")


def _documents(path: str, data: bytes) -> Iterator[dict]:
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
            raise RecordingError(path, line, f"not JSON: {error.msg}; the output may be cut off") from None
        if not isinstance(document, dict):
            raise RecordingError(path, text.count("\n", 0, offset) + 1, "a JSON object is needed")
        yield document
        offset = end
        while offset < len(text) and text[offset].isspace():
            offset += 1


def _resource(path: str, item: dict) -> str:
    kind = item.get("kind")
    if kind not in KINDS:
        raise RecordingError(path, None, f"object of kind {kind!r}; only {', '.join(KINDS)} are replayed")
    return KINDS[kind]
