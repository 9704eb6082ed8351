"""Format versions: the header's line, and how lines of older versions become today's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from harness.events import FORMAT, VERSION, Header
from harness.recording.lines import LineError

Line = dict[str, Any]

CONVERTERS: dict[int, Callable[[Line], Line]] = {}
"""By version: turns a decoded line (header or event) of it into the next version's. 1 is the first."""

HEADER_EXAMPLE = f'{{"format":"{FORMAT}","version":{VERSION}}}'


def header_of(fields: Line) -> tuple[Header, int]:
    """Header of a recording's decoded first line, and the version it was written in.

    LineError for another format, a version this reader does not know, or fields of wrong types.
    """
    if fields.get("format") != FORMAT:
        raise LineError(f'format is {fields.get("format")!r}; a recording starts with {HEADER_EXAMPLE}')
    version = _version(fields)
    try:
        return msgspec.convert(upgrade(fields, version) | {"version": VERSION}, Header), version
    except msgspec.ValidationError as error:
        raise LineError(f"bad header ({error}); a recording starts with {HEADER_EXAMPLE}") from error


def upgrade(fields: Line, version: int) -> Line:
    """A decoded line of `version` as a line of VERSION."""
    for step in range(version, VERSION):
        fields = CONVERTERS[step](fields)
    return fields


def _version(fields: Line) -> int:
    version = fields.get("version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise LineError(f"version {version!r} is not an integer; this program reads up to {VERSION}")
    if version > VERSION:
        raise LineError(f"version {version} was written by a newer version; upgrade (this one reads {VERSION})")
    if any(step not in CONVERTERS for step in range(version, VERSION)):
        raise LineError(f"version {version} never existed; this program reads up to {VERSION}")
    return version
