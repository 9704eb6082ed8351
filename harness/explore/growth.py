"""A source that grows: a thread reads it, and the server's loop adds the events read."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from harness.explore.history import History
from harness.log import open_source
from harness.log.errors import RecordingError
from harness.log.events import Event
from harness.log.follow import Follow

PAUSE_SECONDS = 0.1
END_SECONDS = 10.0


class Growth:
    """Reads `source` until `close`; only `take`, called by one thread, changes the history."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._stop = threading.Event()
        self._caught_up = threading.Event()
        self._read: deque[Event] = deque()
        self._failure: Exception | None = None
        self._history: History | None = None
        self._error: Callable[[Event, str], RecordingError] = lambda event, text: RecordingError(source, None, text)
        self._thread = threading.Thread(target=self._follow, name=f"follows {source}", daemon=True)

    def opened(self) -> History:
        """What the source has so far, once its header is there. RecordingError or OSError if it cannot be read."""
        self._thread.start()
        self._caught_up.wait()
        history = self._history
        if history is None or (self._failure and not self._read):
            raise self._failure or RecordingError(self._source, None, "it ended before its header")
        self.take()
        if self._failure:
            raise self._failure
        return history

    def take(self) -> list[Event]:
        """Add the events read since the last call, and return them. RecordingError for an object without a name."""
        assert self._history is not None, "opened first"
        taken = []
        while self._read:
            event = self._read.popleft()
            try:
                self._history.add(event)
            except ValueError as error:
                self.close()
                raise self._error(event, f"{event.type} {event.resource}: {error}") from None
            taken.append(event)
        return taken

    @property
    def failure(self) -> Exception | None:
        """Why reading has ended, None while it continues."""
        return None if self._read else self._failure

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(END_SECONDS)

    def _follow(self) -> None:
        try:
            with open_source(self._source, Follow(self._wait)) as recording:
                self._error = recording.error
                self._history = History(recording.path, recording.header)
                for event in recording:
                    self._read.append(event)
        except Exception as error:  # any error is reported by the server
            self._failure = error
        finally:
            self._caught_up.set()

    def _wait(self) -> bool:
        """The current end was reached."""
        if self._history is not None:
            self._caught_up.set()
        return not self._stop.wait(PAUSE_SECONDS)
