"""Decodes lines of a recording, with the same checks for files and topics."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.log.errors import RecordingError
from harness.log.events import MARKER_TYPES, OBJECT_TYPES, RESOURCES, VERSION, Event, Header
from harness.log.versions import event_today, header_today, stored_version

_decode_event = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.Encoder().encode
_TYPES = frozenset(OBJECT_TYPES + MARKER_TYPES)
_RESOURCES = frozenset(RESOURCES)
_NULL = msgspec.Raw(b"null")


def header_line(header: Header) -> bytes:
    """The header as stored, with its newline."""
    return _encode(header) + b"\n"


def event_line(event: Event) -> bytes:
    """The event as stored, with its newline."""
    if not memoryview(event.object):
        event = msgspec.structs.replace(event, object=_NULL)
    return _encode(event) + b"\n"


class LineDecoder:
    """Decodes a source's event lines in order; `seq` and `t` are those of the last event.

    `version` is that of the stored format.  A topic may contain an event twice, a file may not: with `skip_repeats`
    these are counted and skipped.
    """

    def __init__(self, path: str, version: int = VERSION, skip_repeats: bool = False, unit: str = "") -> None:
        self._path, self._skip, self._unit = path, skip_repeats, unit
        self._older = version if version < VERSION else None
        self.repeats = 0
        self.seq, self.t = 0, 0

    def event(self, line: bytes, place: int) -> Event | None:
        """The line's event, None for a repeat; RecordingError, naming `place`, if invalid or out of order."""
        try:
            event = _decode_event(line if self._older is None else event_today(line, self._older))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._error(place, _why_undecodable(line, error)) from None
        if self._skip and event.seq <= self.seq:
            self.repeats += 1
            return None
        if event.seq <= self.seq or event.t < self.t or event.type not in _TYPES or event.resource not in _RESOURCES:
            raise self._error(place, _why_wrong(event, self.seq, self.t))
        if event.type in OBJECT_TYPES and bytes(memoryview(event.object)[:1]) != b"{":
            raise self._error(place, f"{event.type} without an object; a manifest is needed")
        if line[-1:] != b"\n":
            raise self._error(place, "the last line is incomplete; it must end with a newline")
        self.seq, self.t = event.seq, event.t
        return event

    def _error(self, place: int, message: str) -> RecordingError:
        return RecordingError(self._path, f"{self._unit}{place}" if self._unit else place, message)


def read_header(path: str, decoded: dict[str, Any]) -> tuple[Header, int]:
    """The header in the current format, and its stored version; RecordingError if it is not supported."""
    version = stored_version(path, decoded)
    try:
        return msgspec.convert(header_today(decoded, version), Header), version
    except msgspec.ValidationError as error:
        raise RecordingError(path, 1, f"bad header: {error}") from None


def _why_undecodable(line: bytes, error: Exception) -> str:
    if line[-1:] != b"\n":
        return "the last line is incomplete as the recording was not closed; remove this line to use the rest"
    return f"not an event: {error}; one JSON object with seq, t, type, resource, object is needed"


def _why_wrong(event: Event, seq: int, t: int) -> str:
    if event.seq <= seq:
        return f"seq {event.seq} after {seq}; seq must increase"
    if event.t < t:
        return f"t {event.t} after {t}; t must not decrease (nanoseconds since the start)"
    if event.type not in _TYPES:
        return f"unknown type {event.type!r}; one of {', '.join(OBJECT_TYPES + MARKER_TYPES)} is needed"
    return f"unknown resource {event.resource!r}; one of {', '.join(RESOURCES)} is needed"
