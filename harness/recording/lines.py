"""Rules for one event line, with the words for each way of breaking them.

The fast reader (`jsonl`) only learns that a batch of lines is wrong; these functions, a line at a
time, say which and why.
"""

from __future__ import annotations

import msgspec

from harness.events import MARKER_TYPES, OBJECT_TYPES, RESOURCES, Event

TYPES = OBJECT_TYPES + MARKER_TYPES
_decode_event = msgspec.json.Decoder(Event).decode
EXAMPLE = '{"seq":1,"t":0,"type":"ADDED","resource":"services","object":{...}}'


class LineError(ValueError):
    """What is wrong with a line and what would be right; the caller knows the path and number."""


def text_of(line: bytes) -> str:
    """The line as text; LineError when it is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise LineError(f"byte 0x{byte:02x} is not UTF-8 text; a recording is UTF-8 JSON lines") from error


def event_of(line: bytes) -> Event:
    """One line (without its newline) as an Event; LineError unless it is JSON of the right shape."""
    text = text_of(line)
    if not text.strip():
        raise LineError("blank line; every line after the first is one event")
    try:
        return _decode_event(line)
    except msgspec.ValidationError as error:
        raise LineError(f"not an event ({error}); an event is {EXAMPLE}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise LineError(f"not JSON ({error}); one event a line, like {EXAMPLE}") from error


def check_event(event: Event, seq: int, t: int) -> None:
    """LineError unless `event` may follow an event with this `seq` and `t` (nanoseconds)."""
    if event.seq <= seq:
        word = "repeats" if event.seq == seq else "falls below"
        raise LineError(f"seq {event.seq} {word} {seq}; seq must rise with every line, from 0 or more")
    if event.t < 0:
        raise LineError(f"t {event.t} is negative; t is nanoseconds since the start, 0 or more")
    if event.t < t:
        raise LineError(f"t {event.t} falls below {t}; t must not fall from line to line")
    _check_words(event)
    _check_object(event)


def _check_words(event: Event) -> None:
    if event.type not in TYPES:
        raise LineError(f"unknown type {event.type!r}; it must be one of {', '.join(TYPES)}")
    if event.resource not in RESOURCES:
        raise LineError(f"unknown resource {event.resource!r}; it must be one of {', '.join(RESOURCES)}")


def _check_object(event: Event) -> None:
    """Markers may go without an object, but one that is there must be a JSON object as well."""
    start = bytes(memoryview(event.object)[:1])
    if not start and event.type in OBJECT_TYPES:
        raise LineError(f'no "object"; {event.type} carries the manifest as "object":{{...}}')
    if start not in (b"", b"{"):
        raise LineError('"object" is not a JSON object; it must be the manifest, {...}')
