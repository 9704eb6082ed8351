"""Our JSON lines, decoded and checked a batch at a time.

A batch is the whole lines of a megabyte or so: msgspec decodes them in one call, and the rules are
checked column by column with C-speed built-ins.  Only when that fails does Python look at lines one
by one, to say which is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter, le, lt

import msgspec

from harness.events import RESOURCES, Event
from harness.recording.errors import RecordingError
from harness.recording.lines import TYPES, LineError, check_event, event_of
from harness.recording.versions import VERSION, upgrade

_decode_lines = msgspec.json.Decoder(Event).decode_lines
_types, _resources = frozenset(TYPES), frozenset(RESOURCES)
_first_byte = itemgetter(0)
_BRACE = {ord("{")}


class EventReader:
    """Turns chunks of text after the header line into lists of checked Events.

    Iterate `batches`; RecordingError names the line, after all events before it were given out.
    """

    def __init__(self, path: str, version: int) -> None:
        self._path = path
        self._version = version
        self._line = 1
        self._seq = -1
        self._t = 0

    def batches(self, chunks: Iterable[bytes]) -> Iterator[list[Event]]:
        """Lists of events, in order, from `chunks` cut anywhere."""
        rest: list[bytes] = []
        for chunk in chunks:
            end = chunk.rfind(b"\n") + 1
            if not end:
                rest.append(chunk)
                continue
            yield from self._batch(b"".join((*rest, chunk[:end])))
            rest = [chunk[end:]]
        self._check_end(b"".join(rest))

    def _batch(self, text: bytes) -> Iterator[list[Event]]:
        """One list for sound lines; for others single events until the error is reached."""
        events = self._fast(text) if self._version == VERSION else None
        if events is None:
            yield from self._one_by_one(text)
            return
        self._line += len(events)
        self._seq, self._t = events[-1].seq, events[-1].t
        yield events

    def _fast(self, text: bytes) -> list[Event] | None:
        """All events of whole lines, or None when anything at all is wrong with one."""
        try:
            # Raw values are skipped, not decoded, so nothing else would notice bad UTF-8 in them.
            text.isascii() or text.decode("utf-8")
            events = _decode_lines(text)
        except (ValueError, RecursionError):
            return None
        # decode_lines takes blank lines and values over several lines, which are not the format.
        if len(events) != text.count(b"\n") or not self._in_order(events) or not _well_formed(events):
            return None
        return events

    def _in_order(self, events: list[Event]) -> bool:
        seqs = [event.seq for event in events]
        times = [event.t for event in events]
        return (
            seqs[0] > self._seq
            and times[0] >= self._t
            and all(map(lt, seqs, seqs[1:]))
            and all(map(le, times, times[1:]))
        )

    def _one_by_one(self, text: bytes) -> Iterator[list[Event]]:
        for line in text[:-1].split(b"\n"):
            self._line += 1
            try:
                event = event_of(self._current(line))
                check_event(event, self._seq, self._t)
            except LineError as error:
                raise RecordingError(self._path, self._line, str(error)) from error
            self._seq, self._t = event.seq, event.t
            yield [event]

    def _current(self, line: bytes) -> bytes:
        """The line in today's version; lines that are no JSON object stay, to be refused as such."""
        if self._version == VERSION:
            return line
        try:
            return msgspec.json.encode(upgrade(msgspec.json.decode(line, type=dict), self._version))
        except ValueError:
            return line

    def _check_end(self, rest: bytes) -> None:
        if rest:
            message = "last line has no newline, so it was cut short; record again, or delete that line"
            raise RecordingError(self._path, self._line + 1, message)


def _well_formed(events: list[Event]) -> bool:
    """Whether types and resources are known and objects are JSON objects where they must be."""
    if not {event.type for event in events} <= _types or not {event.resource for event in events} <= _resources:
        return False
    try:
        return set(map(_first_byte, map(memoryview, [event.object for event in events]))) == _BRACE
    except IndexError:
        # A marker without object: rare enough to check its whole batch the slow way.
        return False
