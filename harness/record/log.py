"""The recording on this disk, which the topic follows: a file that is kept, or a spool.

A spool is a row of segments, each a small recording, dropped once the topic has it.  Either way every
event is on the disk before it is sent, so a recorder that is killed, or a broker that is away, loses none.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from harness.events import Event, Header
from harness.recording import open_source
from harness.recording.follow import Follow
from harness.recording.journal import Journal

SEGMENT_BYTES = 32 << 20


class Log:
    """One writer appends and flushes, one follower reads `after` a seq; each in its own thread."""

    def __init__(self, path: Path, spool: bool = False) -> None:
        """A file, or with `spool` a folder of segments. RecordingError when it cannot be written."""
        self._spool = path if spool else None
        self._changed = threading.Condition()
        self._closed = False
        if spool:
            path.mkdir(parents=True, exist_ok=True)
        self._paths = deque(sorted(path.glob("*.jsonl")) if spool else [path])
        self._journal = Journal(self._paths[-1]) if self._paths else None
        self.cut = self._journal.cut if self._journal else 0
        self.header = self._journal.header if self._journal else None
        self._written: deque[tuple[int, int]] = deque()  # (durable seq, bytes until there)
        self._total = sum(path.stat().st_size for path in self._paths)

    def stored(self) -> Iterator[Event]:
        """All events on the disk from an earlier run."""
        for path in [path for path in self._paths if path.stat().st_size]:
            with open_source(path) as recording:
                yield from recording

    def start(self, header: Header, seq: int) -> None:
        """Write the header where there is none, and go on after that seq."""
        self.header = header
        if self._journal is None:
            self._paths.append(self._spool / _segment_name(seq + 1))
            self._journal = Journal(self._paths[-1])
        if self._journal.empty:
            self._journal.begin(header)
        self._journal.resume(seq)
        # All of a spool may have to be sent still; how much of a file, only the topic knows.
        self._written.extend([(0, 0), (seq, self._total)] if self._spool else [(seq, self._total)])

    @property
    def seq(self) -> int:
        """The last event appended."""
        return self._journal.seq

    @property
    def durable(self) -> int:
        """The last event that is safe on the disk."""
        return self._journal.durable

    @property
    def buffered(self) -> int:
        """Bytes appended and not flushed."""
        return self._journal.buffered

    def append(self, event: Event) -> None:
        """Take one event; safe after `flush`."""
        self._journal.append(event)

    def flush(self) -> int:
        """Make what was appended safe; OSError when the disk is full. Returns the last safe seq."""
        self._total += self._journal.buffered
        with self._changed:
            self._journal.flush()
            self._written.append((self._journal.durable, self._total))
            self._changed.notify_all()
        if self._spool and self._journal.size >= SEGMENT_BYTES:
            self._next_segment()
        return self.durable

    def outstanding(self, acknowledged: int) -> int:
        """Bytes of the events behind that seq, which the topic has not got yet."""
        with self._changed:
            while len(self._written) > 1 and self._written[1][0] <= acknowledged:
                self._written.popleft()
            return self._total - self._written[0][1] if self._written else 0

    def drop(self, acknowledged: int) -> None:
        """Forget what the topic has, as far as this is a spool. The segment being written stays."""
        with self._changed:
            while self._spool and len(self._paths) > 1 and _first_seq(self._paths[1]) <= acknowledged + 1:
                self._paths.popleft().unlink(missing_ok=True)

    def keeps(self, seq: int) -> bool:
        """Whether everything behind that seq is still here."""
        with self._changed:
            return not self._spool or not self._paths or _first_seq(self._paths[0]) <= seq + 1

    def after(self, seq: int, events: int, size: int) -> Iterator[list[Event]]:
        """Batches, bounded in events and bytes, of what is durable behind `seq`; ends once the log is closed."""
        last, reader = seq, self._read(seq)
        while (durable := self._wait_for_more(last)) is not None:
            batch, length = [], 0
            while last < durable and len(batch) < events and length < size:
                event = next(reader)
                last, length = event.seq, length + len(memoryview(event.object))
                batch.append(event)
            yield batch

    def close(self) -> None:
        """Flush; followers end after the last event."""
        with self._changed:
            self._journal.close()
            self._written.append((self._journal.durable, self._total))
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Close without a word, and leave no file that was made only now."""
        if self._journal:
            self._journal.close()
            if self._journal.size == 0:
                Path(self._journal.path).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove a closed spool that the topic has all of."""
        for path in self._paths if self._spool else ():
            path.unlink(missing_ok=True)

    def _wait_for_more(self, seq: int) -> int | None:
        with self._changed:
            while self._journal.durable <= seq:
                if self._closed:
                    return None
                self._changed.wait()
            return self._journal.durable

    def _read(self, seq: int) -> Iterator[Event]:
        """Events behind `seq`, never asked for more than is durable."""
        path = self._segment_of(seq + 1)
        while True:
            # Not at its end before all of it was given: a finished segment ends, the last one grows.
            with open_source(path, Follow(wait=lambda path=path: not self._finished(path))) as recording:
                yield from (event for event in recording if event.seq > seq)
            path = self._behind(path)

    def _segment_of(self, seq: int) -> Path:
        with self._changed:
            fitting = [path for path in self._paths if not self._spool or _first_seq(path) <= seq]
            return fitting[-1] if fitting else self._paths[0]

    def _finished(self, path: Path) -> bool:
        with self._changed:
            return path != self._paths[-1]

    def _behind(self, path: Path) -> Path:
        with self._changed:
            return next(other for other in self._paths if other > path)  # `path` may be dropped already

    def _next_segment(self) -> None:
        following = Journal(self._spool / _segment_name(self.seq + 1))
        following.begin(self.header)
        following.resume(self.seq)
        with self._changed:
            self._journal.close()
            self._journal = following
            self._paths.append(Path(following.path))


def spool_folder(topic: str) -> Path:
    """Where the spool of a topic is by default."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "kube-proxy-harness" / "spool" / topic


def _segment_name(first_seq: int) -> str:
    return f"{first_seq:020}.jsonl"


def _first_seq(segment: Path) -> int:
    return int(segment.stem)
