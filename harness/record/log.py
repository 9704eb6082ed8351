"""The recording on local disk, which is forwarded to the topic: a permanent file, or a spool.

A spool is a sequence of segments, each a small recording that is deleted once it is in the topic.  Either way every
event is on disk before it is sent, so that neither a killed recorder nor an unavailable broker loses events.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness.home import NoHome, state_folder
from harness.log import RecordingError, open_source
from harness.log.events import Event, Header
from harness.log.follow import Follow
from harness.log.journal import LogFile

SEGMENT_BYTES = 32 << 20


class EventLog:
    """One writer appends and flushes, one follower reads events after a seq; each in its own thread."""

    def __init__(self, path: Path, spool: bool = False) -> None:
        """A file, or with `spool` a folder of segments. RecordingError if it cannot be written."""
        self._spool = path if spool else None
        self._changed = threading.Condition()
        self._closed = False
        if spool:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                why = f"the spool folder cannot be created: {error.strerror}; choose another with --spool"
                raise RecordingError(str(path), None, why) from None
        self._paths = deque(sorted(path.glob("*.jsonl")) if spool else [path])
        self._journal = LogFile(self._paths[-1]) if self._paths else None
        self.cut = self._journal.cut if self._journal else 0
        self.header = self._journal.header if self._journal else None
        self._written: deque[tuple[int, int]] = deque()  # (durable seq, bytes until there)
        self._total = sum(path.stat().st_size for path in self._paths)

    def stored(self) -> Iterator[Event]:
        """All events on disk from earlier runs."""
        for path in [path for path in self._paths if path.stat().st_size]:
            with open_source(path) as recording:
                yield from recording

    def start(self, header: Header, seq: int) -> None:
        """Write the header if missing, and continue after `seq`."""
        self.header = header
        if self._journal is None:
            assert self._spool, "a permanent file is open from the beginning"
            self._paths.append(self._spool / _segment_name(seq + 1))
            self._journal = LogFile(self._paths[-1])
        if self._writing.empty:
            self._writing.begin(header)
        self._writing.resume(seq)
        # A spool may still have to be sent completely; for a file, only the topic knows how much.
        self._written.extend([(0, 0), (seq, self._total)] if self._spool else [(seq, self._total)])

    @property
    def _writing(self) -> LogFile:
        """The file being appended to."""
        assert self._journal, "it exists after `start`"
        return self._journal

    @property
    def seq(self) -> int:
        """The last event appended."""
        return self._writing.seq

    @property
    def durable(self) -> int:
        """The last event that is durable."""
        return self._writing.durable

    @property
    def buffered(self) -> int:
        """Bytes appended but not yet flushed."""
        return self._writing.buffered

    def append(self, event: Event) -> None:
        """Append one event; it is durable after `flush`."""
        self._writing.append(event)

    def flush(self) -> int:
        """Make appended events durable; OSError if the disk is full. Returns the last durable seq."""
        self._total += self._writing.buffered
        with self._changed:
            self._writing.flush()
            self._written.append((self._writing.durable, self._total))
            self._changed.notify_all()
        if self._spool and self._writing.size >= SEGMENT_BYTES:
            self._next_segment()
        return self.durable

    def outstanding(self, acknowledged: int) -> int:
        """Bytes of the events after the given seq, which are not in the topic yet."""
        with self._changed:
            while len(self._written) > 1 and self._written[1][0] <= acknowledged:
                self._written.popleft()
            return self._total - self._written[0][1] if self._written else 0

    def drop(self, acknowledged: int) -> None:
        """Delete segments of a spool that are in the topic, except for the one being written."""
        with self._changed:
            while self._spool and len(self._paths) > 1 and _first_seq(self._paths[1]) <= acknowledged + 1:
                self._paths.popleft().unlink(missing_ok=True)

    def keeps(self, seq: int) -> bool:
        """Whether all events after the given seq are still available."""
        with self._changed:
            return not self._spool or not self._paths or _first_seq(self._paths[0]) <= seq + 1

    def after(self, seq: int, events: int, size: int) -> Iterator[list[Event]]:
        """Batches of durable events after `seq`, bounded in events and bytes; ends when the log is closed."""
        last, reader = seq, self._read(seq)
        while (durable := self._wait_for_more(last)) is not None:
            batch: list[Event] = []
            length = 0
            while last < durable and len(batch) < events and length < size:
                event = next(reader)
                last, length = event.seq, length + len(memoryview(event.object))
                batch.append(event)
            yield batch

    def close(self) -> None:
        """Flush; followers end after the last event."""
        with self._changed:
            self._writing.close()
            self._written.append((self._writing.durable, self._total))
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Close without flushing, and remove a file that was only just created."""
        if self._journal:
            self._journal.close()
            if self._journal.size == 0:
                Path(self._journal.path).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove a closed spool that is completely in the topic."""
        for path in self._paths if self._spool else ():
            path.unlink(missing_ok=True)

    def _wait_for_more(self, seq: int) -> int | None:
        with self._changed:
            while self._writing.durable <= seq:
                if self._closed:
                    return None
                self._changed.wait()
            return self._writing.durable

    def _read(self, seq: int) -> Iterator[Event]:
        """Events after `seq`; the caller never requests more than is durable."""
        path = self._segment_of(seq + 1)
        while True:
            # Report the end only after all events: finished segments end, the last one grows.
            with open_source(path, Follow(wait=partial(self._grows, path))) as recording:
                yield from (event for event in recording if event.seq > seq)
            path = self._behind(path)

    def _segment_of(self, seq: int) -> Path:
        with self._changed:
            fitting = [path for path in self._paths if not self._spool or _first_seq(path) <= seq]
            return fitting[-1] if fitting else self._paths[0]

    def _grows(self, path: Path) -> bool:
        with self._changed:
            return path == self._paths[-1]

    def _behind(self, path: Path) -> Path:
        with self._changed:
            return next(other for other in self._paths if other > path)  # `path` may already be deleted

    def _next_segment(self) -> None:
        assert self._spool and self.header, "a spool that was started"
        following = LogFile(self._spool / _segment_name(self.seq + 1))
        following.begin(self.header)
        following.resume(self.seq)
        with self._changed:
            self._writing.close()
            self._journal = following
            self._paths.append(Path(following.path))


def spool_folder(topic: str) -> Path:
    """The default spool folder of a topic; RecordingError if the user has no home directory."""
    try:
        return state_folder() / "spool" / topic
    except NoHome as error:
        raise RecordingError("spool", None, f"{error}, or choose a folder with --spool") from None


def _segment_name(first_seq: int) -> str:
    return f"{first_seq:020}.jsonl"


def _first_seq(segment: Path) -> int:
    return int(segment.stem)
