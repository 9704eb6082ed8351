"""One import: a source's documents, assembled and written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from harness.kube.resources import PROXIED
from harness.log import RecordingError, write_recording
from harness.log.events import FORMAT, OBJECT_TYPES, VERSION, Header
from harness.log.imports.assemble import Assembler
from harness.log.imports.documents import documents

EPOCH = "2000-01-01T00:00:00Z"
"""Start time of a recording without a date."""


class Report(msgspec.Struct):
    """Counts of converted events: `changes` come after the initial list, `slices` are events about EndpointSlices.

    `dropped` counts what was left out, by description.
    """

    documents: int = 0
    events: int = 0
    changes: int = 0
    slices: int = 0
    dropped: dict[str, int] = {}


def convert(source: str, destination: str | Path, start: str | None = None, name: str | None = None) -> Report:
    """Write the contents of `source` as a recording, completely or not at all.

    `start` (RFC 3339) is its start time, which relative times count from; `name` the cluster's name.
    RecordingError with document and line for bad input, OSError when it cannot be written.
    """
    assembler = Assembler(datetime.fromisoformat(start or EPOCH))
    for document in documents(source):
        try:
            assembler.add(document)
        except (ValueError, RecursionError) as error:
            raise RecordingError(source, document.line, f"document {document.number}: {error}") from None
    assembler.finish()
    events = assembler.events
    objects = [event for event in events if event.type in OBJECT_TYPES]
    if not objects:
        raise RecordingError(source, None, _nothing(assembler))
    resources = (*PROXIED, *sorted({event.resource for event in objects}.difference(PROXIED)))
    write_recording(destination, Header(FORMAT, VERSION, resources, start, {"name": name} if name else {}), events)
    changes = sum(event.type != "ADDED" or event.t > 0 for event in objects)
    slices = sum(event.resource == "endpointslices" for event in objects)
    return Report(assembler.documents, len(events), changes, slices, dict(sorted(assembler.dropped.items())))


def _nothing(assembler: Assembler) -> str:
    others = ", ".join(f"{count} {what}" for what, count in sorted(assembler.dropped.items()))
    return f"no Service, EndpointSlice, Node or Pod in it{f'; only {others}' if others else ': it is empty'}"
