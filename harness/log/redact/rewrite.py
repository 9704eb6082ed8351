"""One redaction: a first pass collects, a second pass writes.

SRC -- collect --> names, words -- key --> pseudonyms
SRC ------------------------------------ rewrite --> DST
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness.log import Recording, open_source, write_recording
from harness.log.events import FORMAT, OBJECT_TYPES, RESOURCES, VERSION, Event, Header
from harness.log.redact.address_text import AddressTexts
from harness.log.redact.addresses import AddressMap
from harness.log.redact.mappers import Collector, Rewriter, stays
from harness.log.redact.names import Pseudonyms
from harness.log.redact.rivals import Rivals
from harness.log.redact.schema import CLUSTER, MARKER, OBJECTS, TIME
from harness.log.redact.walk import Mapper, walk

_WORD = re.compile(rb"[A-Za-z0-9]+")
_encode = msgspec.json.Encoder().encode


class Report(msgspec.Struct):
    """The result of a redaction.  `dropped` counts values that are not part of a redacted recording, by path."""

    events: int = 0
    names: int = 0
    short_names: int = 0
    dropped: dict[str, int] = {}


def redact(source: str, destination: str | Path, key: bytes) -> Report:
    """Read `source` twice and write the redacted recording atomically.

    RecordingError for bad input; OSError if the destination cannot be written.
    """
    addresses = AddressTexts(AddressMap(key))
    collector = Collector(addresses)
    with open_source(source) as recording:
        rivals = _collect(recording, collector)
    pseudonyms = Pseudonyms(key, collector.names, collector.short, collector.words, rivals.groups)
    rewriter = Rewriter(key, addresses, pseudonyms)
    report = Report(names=len(collector.names), short_names=len(collector.short))
    with open_source(source) as recording:
        header = _header(recording.header, rewriter)
        write_recording(destination, header, _counted(_rewritten(recording, rewriter), report))
    report.dropped = dict(sorted(rewriter.dropped_fields.items()))
    return report


def _collect(recording: Recording, collector: Collector) -> Rivals:
    """Every text that will be mapped, and every word that occurs, mapped or not."""
    rivals = Rivals()
    header = _encode(recording.header)
    collector.words.update(_words(header))
    _header(recording.header, collector)
    for event in recording:
        collector.words.update(_words(bytes(event.object)))
        _object(recording, event, collector)
        if event.type in OBJECT_TYPES:
            rivals.observe(event.resource, msgspec.json.decode(event.object))
    return rivals


def _words(text: bytes) -> Iterator[str]:
    return (word.decode().lower() for word in set(_WORD.findall(text)))


def _header(header: Header, mapper: Mapper) -> Header:
    """The header without `generator`, which would identify the recording, and without fields of invalid form."""
    start = header.start if header.start is None or stays(TIME, header.start) else None
    resources = tuple(resource for resource in header.resources if resource in RESOURCES)
    gone = {"generator": header.generator, "start": start != header.start, "resources": resources != header.resources}
    for field in filter(gone.get, gone):
        mapper.dropped(f"header.{field}")
    return Header(FORMAT, VERSION, resources, start, walk(CLUSTER, header.cluster, mapper, "header.cluster"))


def _rewritten(recording: Recording, rewriter: Rewriter) -> Iterator[Event]:
    for event in recording:
        yield Event(event.seq, event.t, event.type, event.resource, _object(recording, event, rewriter))


def _object(recording: Recording, event: Event, mapper: Mapper) -> msgspec.Raw:
    """The event with a mapped object; markers may have none."""
    if not bytes(event.object):
        return event.object
    schema: Any = OBJECTS[event.resource] if event.type in OBJECT_TYPES else MARKER
    path = event.resource if event.type in OBJECT_TYPES else event.type
    try:
        decoded = msgspec.json.decode(event.object)
        return msgspec.Raw(_encode(walk(schema, decoded, mapper, path)))
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise recording.error(event, f"{event.type} {event.resource}: {error}") from None


def _counted(events: Iterator[Event], report: Report) -> Iterator[Event]:
    for event in events:
        report.events += 1
        yield event
