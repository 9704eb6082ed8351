"""Opens a source of events, whichever kind it is."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain
from types import TracebackType
from typing import Any, Self

import msgspec

from harness.events import Event, Header
from harness.recording import kubectl
from harness.recording.errors import RecordingError
from harness.recording.jsonl import EventReader
from harness.recording.lines import LineError
from harness.recording.storage import Storage
from harness.recording.versions import HEADER_EXAMPLE, header_of


class Recording:
    """An open source: `header`, `path`, and its Events, which can be iterated once, like a file.

    Iteration raises RecordingError at the first bad line. `has_lines` says that the n-th event (from
    1) is on line n + 1. Use as a context manager, or `close()` it.
    """

    def __init__(self, storage: Storage, header: Header, events: Iterator[Event], has_lines: bool) -> None:
        self.path = storage.path
        self.header = header
        self.has_lines = has_lines
        self._storage = storage
        self._events = events

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the source's bytes as stored; RuntimeError until all events are read."""
        return self._storage.sha256

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def close(self) -> None:
        """Close the underlying file."""
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(path: str) -> Recording:
    """Open a recording, kubectl's output, or `-` for either on standard input; any may be zstd.

    RecordingError when it cannot be opened or does not start like one of those.
    """
    storage = Storage(str(path))
    try:
        return _open(storage)
    except BaseException:
        storage.close()
        raise


def _open(storage: Storage) -> Recording:
    chunks = storage.chunks()
    start = _first_line(storage.path, chunks)
    line, newline, rest = start.partition(b"\n")
    fields = _header_fields(line)
    if fields is None:
        text = _text(storage.path, chain([start], chunks))
        return Recording(storage, kubectl.HEADER, iter(kubectl.events_of(storage.path, text)), False)
    try:
        header, version = header_of(fields)
    except LineError as error:
        raise RecordingError(storage.path, 1, str(error)) from error
    if not newline:
        raise RecordingError(storage.path, 1, "the header has no newline, so it was cut short; record again")
    batches = EventReader(storage.path, version).batches(chain([rest] if rest else [], chunks))
    return Recording(storage, header, chain.from_iterable(batches), True)


def _first_line(path: str, chunks: Iterator[bytes]) -> bytes:
    """Text up to the first newline and whatever came with it; RecordingError unless it may be JSON."""
    start = b""
    for chunk in chunks:
        start += chunk
        _check_start(path, start)
        if b"\n" in chunk:
            break
    if not start.strip():
        raise RecordingError(path, 1, f"empty; a recording starts with {HEADER_EXAMPLE}")
    return start


def _check_start(path: str, start: bytes) -> None:
    """Refuses other files at once, rather than after reading all of one that may be huge."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start).strip()
    except UnicodeDecodeError as error:
        raise _binary(path, start, error) from error
    if text and not text.startswith("{"):
        raise RecordingError(path, 1, f"not JSON; {kubectl.WANTED}")


def _binary(path: str, data: bytes, error: UnicodeDecodeError) -> RecordingError:
    line = data.count(b"\n", 0, error.start) + 1
    message = f"byte 0x{data[error.start]:02x} is not UTF-8 text; a source is JSON, plain or zstd"
    return RecordingError(path, line, message)


def _header_fields(line: bytes) -> dict[str, Any] | None:
    """The first line decoded, or None when it is no header of ours, so that kubectl's may be tried."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None
    return fields if "format" in fields or "version" in fields else None


def _text(path: str, chunks: Iterator[bytes]) -> str:
    data = b"".join(chunks)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _binary(path, data, error) from error
