"""Writes recordings: compact JSON, one event a line, and the whole file or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import zstandard

from harness.events import INITIAL_EVENTS_END, Event, Header
from harness.recording.lines import event_line, header_line

_encode = msgspec.json.Encoder().encode


def initial_events_end(seq: int, t: int, resource: str) -> Event:
    """The BOOKMARK that ends the initial list of `resource`."""
    mark = {"metadata": {"annotations": {INITIAL_EVENTS_END: "true"}}}
    return Event(seq, t, "BOOKMARK", resource, msgspec.Raw(_encode(mark)))


def write_recording(path: str | Path, header: Header, events: Iterable[Event]) -> None:
    """Write beside `path`, then rename; `.zst` is compressed. A failure leaves nothing behind."""
    partial = Path(f"{path}.partial")
    try:
        with open(partial, "wb") as raw:
            if str(path).endswith(".zst"):
                with zstandard.ZstdCompressor(level=9).stream_writer(raw, closefd=False) as out:
                    _write(out, header, events)
            else:
                _write(raw, header, events)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write(out, header: Header, events: Iterable[Event]) -> None:
    out.write(header_line(header))
    for event in events:
        out.write(event_line(event))
