"""Writes recordings: compact JSON, one event per line, completely or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import msgspec
import zstandard

from harness.log.events import INITIAL_EVENTS_END, Event, Header
from harness.log.lines import event_line, header_line
from harness.output import OutputError, whole_file

_encode = msgspec.json.Encoder().encode


def initial_events_end(seq: int, t: int, resource: str) -> Event:
    """The BOOKMARK that ends the initial list of `resource`."""
    mark = {"metadata": {"annotations": {INITIAL_EVENTS_END: "true"}}}
    return Event(seq, t, "BOOKMARK", resource, msgspec.Raw(_encode(mark)))


def write_recording(path: str | Path, header: Header, events: Iterable[Event]) -> None:
    """Write the file completely or not at all; `.zst` is compressed. OutputError if it cannot be written."""
    with whole_file(path) as raw:
        if str(path).endswith(".zst"):
            into = cast(BinaryIO, _Into(raw, path))  # no other methods of a file are used
            with zstandard.ZstdCompressor(level=9).stream_writer(into, closefd=False) as out:
                _write(out, header, events)
        else:
            _write(_Into(raw, path), header, events)
        with _named(path):
            raw.flush()


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Into:
    """A file whose errors name it, and are distinguished from errors of the source."""

    def __init__(self, file: BinaryIO, path: str | Path) -> None:
        self._file, self._path = file, path

    def write(self, data: bytes) -> int:
        with _named(self._path):
            return self._file.write(data)

    def flush(self) -> None:
        with _named(self._path):
            self._file.flush()


@contextlib.contextmanager
def _named(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(str(path), error) from None


def _write(out: _Writable, header: Header, events: Iterable[Event]) -> None:
    out.write(header_line(header))
    for event in events:
        out.write(event_line(event))
