"""Older versions of the format: what each version changed, applied on reading by files and topics alike.  Pure.

A change of the format increments `events.VERSION` and adds the `VersionStep` from the previous version.  No other code
handles older versions: readers return events in the current format, and only a recording in it can be continued.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from harness.log.errors import RecordingError
from harness.log.events import FORMAT, VERSION, JsonObject


class VersionStep(NamedTuple):
    """Converts the header and an event's line, as JSON objects, from one version to the next."""

    header: Callable[[JsonObject], JsonObject]
    event: Callable[[JsonObject], JsonObject]


STEPS: dict[int, VersionStep] = {}
"""By the version that a step converts from.  Version 1 is the first, so there is none yet."""

_encode = msgspec.json.Encoder().encode


def stored_version(path: str, header: JsonObject) -> int:
    """The version that a header names; RecordingError if it is not supported."""
    if header["format"] != FORMAT:
        raise RecordingError(path, 1, f"format is {header['format']!r}; {FORMAT!r} is needed")
    version, oldest = header.get("version"), min(STEPS, default=VERSION)
    if type(version) is not int or version < oldest:
        raise RecordingError(path, 1, f"version is {version!r}; an integer from {oldest} to {VERSION} is needed")
    if version > VERSION:
        newer = f"version {version} was written by a newer harness; this one reads up to {VERSION}: upgrade"
        raise RecordingError(path, 1, newer)
    return version


def header_today(header: JsonObject, version: int) -> JsonObject:
    """A header of that version in the current format."""
    for number in range(version, VERSION):
        header = STEPS[number].header(header)
    return header | {"version": VERSION}


def event_today(line: bytes, version: int) -> bytes:
    """An event's line of an older version in the current format; DecodeError if it is not valid in that version."""
    event: Any = msgspec.json.decode(line)
    try:
        for number in range(version, VERSION):
            event = STEPS[number].event(event)
    except (KeyError, TypeError, AttributeError) as error:
        raise msgspec.DecodeError(f"not as version {version} writes it ({error!r})") from None
    return _encode(event) + line[len(line.rstrip(b"\n")) :]


def require_own_version(path: str, version: int) -> None:
    """RecordingError for a recording of an older version, which can be read but not continued."""
    if version != VERSION:
        raise RecordingError(
            path, 1, f"version {version} cannot be continued; `harness copy` writes it as version {VERSION} elsewhere"
        )
