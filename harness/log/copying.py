"""Moves recordings between files and topics: the same events, in the same order, whatever stops it when."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

from harness.events import Event
from harness.recording.errors import RecordingError
from harness.recording.follow import Follow
from harness.recording.journal import Journal
from harness.recording.reader import Recording, open_source
from harness.recording.writer import write_recording

Progress = Callable[[int], None]


def copy(
    source: str,
    target: str,
    follow: Follow | None,
    progress: Progress,
    trouble: Callable[[str], None] = lambda why: None,
) -> int:
    """Copy, and return the number of events written.

    A file is written whole or not at all.  A topic, and a file that follows, are continued when they hold
    a beginning of the source.  RecordingError when they hold something else.

    With `follow`, a broker that goes away is waited for: the source keeps what the topic has not got, and
    `trouble` is told why nothing moves.  BrokerAway only when there never was one, or when told to stop.
    """
    count = _Count(progress)
    while True:
        try:
            with open_source(source, follow) as recording:
                _into(recording, target, follow, count)
            return count.events
        except RecordingError as error:
            if not (follow and count.opened and _passes(error)):
                raise
            trouble(str(error))
            if not follow.wait():
                raise


def _passes(error: RecordingError) -> bool:
    """Whether the same again may succeed later."""
    from harness.kafka.errors import BrokerAway

    return isinstance(error, BrokerAway)


def _into(recording: Recording, target: str, follow: Follow | None, count: _Count) -> None:
    if target.startswith("kafka://"):
        _into_topic(recording, target, count)
    elif follow:
        _into_growing_file(recording, target, count)
    else:
        write_recording(target, recording.header, count.through(recording))


def _into_topic(recording: Recording, target: str, count: _Count) -> None:
    from harness.kafka.address import parse_address
    from harness.kafka.sink import BATCH_BYTES, BATCH_EVENTS, TopicWriter

    writer = TopicWriter(parse_address(target), recording.header, uuid.uuid4().bytes)
    count.opened = True
    try:
        batch: list[Event] = []
        size = 0
        for event in recording:
            if event.seq > writer.seq and not event.ticks:
                batch.append(event)
                size += len(memoryview(event.object))
            if batch and (event.ticks or len(batch) >= BATCH_EVENTS or size >= BATCH_BYTES):
                writer.write(batch)
                count.add(len(batch))
                batch, size = [], 0
        if batch:
            writer.write(batch)
            count.add(len(batch))
    finally:
        writer.close()


def _into_growing_file(recording: Recording, target: str, count: _Count) -> None:
    journal = Journal(target)
    try:
        if journal.empty:
            journal.begin(recording.header)
        elif journal.header != recording.header:
            raise RecordingError(target, 1, "holds another recording; name another file")
        journal.resume(_last_seq(target))
        count.opened = True
        for event in recording:
            if event.seq > journal.seq and not event.ticks:
                journal.append(event)
                count.add(1)
            if event.ticks or journal.buffered > 1 << 20:
                journal.flush()
    finally:
        journal.close()


def _last_seq(path: str) -> int:
    last = 0
    with open_source(path) as recording:
        for event in recording:
            last = event.seq
    return last


class _Count:
    """Counts events written, over all tries, and tells. `opened`: source and target were both there once."""

    def __init__(self, progress: Progress) -> None:
        self.events, self.opened, self._progress = 0, False, progress

    def add(self, events: int) -> None:
        self.events += events
        self._progress(self.events)

    def through(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            yield event
            self.events += 1
            if self.events % 1_000 == 0:
                self._progress(self.events)
