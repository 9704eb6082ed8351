"""Copies recordings between files and topics: the same events in the same order, even after interruptions."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator

from harness.log.errors import RecordingError
from harness.log.events import Event
from harness.log.follow import Follow
from harness.log.journal import LogFile
from harness.log.source import Recording, open_source
from harness.log.writer import write_recording

Progress = Callable[[int], None]


def copy(
    source: str,
    target: str,
    follow: Follow | None,
    progress: Progress,
    trouble: Callable[[str], None] = lambda why: None,
) -> int:
    """Copy, and return the number of events written.

    A file is written completely or not at all.  A topic, or with `follow` a file, is continued if it contains the
    first part of the source; RecordingError if it contains anything else.

    With `follow`, an outage of the broker is waited out: the source keeps the remaining events, and `trouble` is
    called with the reason.  BrokerAway only if the broker was never reached, or on a stop.
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
    """Whether a retry may succeed."""
    from harness.log.kafka.trouble import BrokerAway

    return isinstance(error, BrokerAway)


def _into(recording: Recording, target: str, follow: Follow | None, count: _Count) -> None:
    if target.startswith("kafka://"):
        _into_topic(recording, target, count)
    elif follow:
        _into_growing_file(recording, target, count)
    else:
        write_recording(target, recording.header, count.through(recording))


def _into_topic(recording: Recording, target: str, count: _Count) -> None:
    from harness.log.kafka.address import parse_address
    from harness.log.kafka.sink import BATCH_BYTES, BATCH_EVENTS, TopicWriter

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
    journal = LogFile(target)
    try:
        if journal.empty:
            journal.begin(recording.header)
        elif journal.header != recording.header:
            raise RecordingError(target, 1, "contains another recording; choose another file")
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
    """Counts events written, over all attempts, and reports progress. `opened`: both ends were open once."""

    def __init__(self, progress: Progress) -> None:
        self.events, self.opened, self._progress = 0, False, progress

    def add(self, events: int) -> None:
        self.events += events
        self._progress(self.events)

    def through(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            yield event
            self.events += 1
            if self.events % 1_000 == 0:
                self._progress(self.events)
