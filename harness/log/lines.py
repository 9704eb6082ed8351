"""One line of a recording and its value: the same checks wherever lines come from, a file or a topic."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.events import FORMAT, MARKER_TYPES, OBJECT_TYPES, RESOURCES, VERSION, Event, Header
from harness.recording.errors import RecordingError

_decode_event = msgspec.json.Decoder(Event).decode
_decode_header = msgspec.json.Decoder(Header).decode
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
    """Decodes a source's event lines in order; `seq` and `t` are those of the last one.

    A topic may hold an event twice, a file may not: with `skip_repeats` those are counted and passed over.
    """

    def __init__(self, path: str, skip_repeats: bool = False, unit: str = "") -> None:
        self._path, self._skip, self._unit = path, skip_repeats, unit
        self.repeats = 0
        self.seq, self.t = 0, 0

    def event(self, line: bytes, place: int) -> Event | None:
        """The line's event, None for a repeat; RecordingError, naming `place`, when it is none or out of order."""
        try:
            event = _decode_event(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._error(place, _why_undecodable(line, error)) from None
        if self._skip and event.seq <= self.seq:
            self.repeats += 1
            return None
        if event.seq <= self.seq or event.t < self.t or event.type not in _TYPES or event.resource not in _RESOURCES:
            raise self._error(place, _why_wrong(event, self.seq, self.t))
        if event.type in OBJECT_TYPES and memoryview(event.object)[:1] != b"{":
            raise self._error(place, f"{event.type} without an object; a manifest is needed")
        if line[-1:] != b"\n":
            raise self._error(place, "the last line is cut off; a line ends with a newline")
        self.seq, self.t = event.seq, event.t
        return event

    def _error(self, place: int, message: str) -> RecordingError:
        return RecordingError(self._path, f"{self._unit}{place}" if self._unit else place, message)


def decode_header(path: str, line: bytes, decoded: dict[str, Any]) -> Header:
    """The header in `line`, which is `decoded` already; RecordingError when it cannot be read here."""
    if decoded["format"] != FORMAT:
        raise RecordingError(path, 1, f"format is {decoded['format']!r}; {FORMAT!r} is needed")
    version = decoded.get("version")
    if type(version) is not int or version < 1:
        raise RecordingError(path, 1, f"version is {version!r}; an integer from 1 to {VERSION} is needed")
    if version > VERSION:
        newer = f"version {version} was written by a newer harness; this one reads up to {VERSION}: upgrade"
        raise RecordingError(path, 1, newer)
    try:
        return _decode_header(line)
    except msgspec.DecodeError as error:
        raise RecordingError(path, 1, f"bad header: {error}") from None


def _why_undecodable(line: bytes, error: Exception) -> str:
    if line[-1:] != b"\n":
        return "the last line is cut off; the recording was not closed, cut this line to use the rest"
    return f"not an event: {error}; one JSON object with seq, t, type, resource, object is needed"


def _why_wrong(event: Event, seq: int, t: int) -> str:
    if event.seq <= seq:
        return f"seq {event.seq} after {seq}; seq must rise"
    if event.t < t:
        return f"t {event.t} after {t}; t must not fall (nanoseconds since the start)"
    if event.type not in _TYPES:
        return f"unknown type {event.type!r}; one of {', '.join(OBJECT_TYPES + MARKER_TYPES)} is needed"
    return f"unknown resource {event.resource!r}; one of {', '.join(RESOURCES)} is needed"
