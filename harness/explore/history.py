"""A recording in memory, with checkpoints for fast access to the state at any event.  Pure after reading."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from harness.log import Recording
from harness.log.events import MARKER_TYPES, OBJECT_TYPES, Event, Header
from harness.log.positions import Position
from harness.log.state import Key, State, key_of

EVERY = 256
"""Number of events between two checkpoints; each is a dictionary of all objects, with shared manifests."""

Objects = Mapping[Key, msgspec.Raw]


@dataclass(frozen=True)
class Moment:
    """One event: its index, its change, and the object's manifest before and after, None if absent."""

    index: int
    event: Event
    key: Key | None
    before: msgspec.Raw | None
    after: msgspec.Raw | None


class History:
    """A recording's events so far. `add` may run while other threads read: added events never change."""

    def __init__(self, path: str, header: Header, sha256: str = "") -> None:
        self.path, self.header, self.sha256 = path, header, sha256
        self.events: list[Event] = []
        self.initial = 0
        self._now = State()
        self._checkpoints: list[dict[Key, msgspec.Raw]] = [{}]
        self._seqs: list[int] = []
        self._times: list[int] = []
        self._latest: tuple[int, Objects] = 0, {}

    def __len__(self) -> int:
        return len(self.events)

    def add(self, event: Event) -> None:
        """Add the next event; ValueError if its object has no name."""
        self._now.apply(event)
        self.events.append(event)
        self._seqs.append(event.seq)
        self._times.append(event.t)
        if len(self.events) % EVERY == 0:
            self._checkpoints.append(dict(self._now.objects))
        if event.ends_initial_list:
            self.initial = len(self.events)

    def index_of(self, position: Position) -> int:
        """The number of events up to a seq or time, 0 before the first."""
        kind, value = position
        return bisect_right(self._seqs if kind == "seq" else self._times, value)

    def objects(self, count: int) -> Objects:
        """All objects that exist after the first `count` events."""
        if self._latest[0] != count:
            self._latest = count, self._folded(count)
        return self._latest[1]

    def _folded(self, count: int) -> Objects:
        state = State()
        state.objects = dict(self._checkpoints[count // EVERY])
        for event in self.events[count // EVERY * EVERY : count]:
            state.apply(event)
        return state.objects

    def moment(self, count: int) -> Moment | None:
        """Event number `count`; None for 0."""
        if count == 0:
            return None
        event = self.events[count - 1]
        if event.type not in OBJECT_TYPES:
            return Moment(count - 1, event, None, None, None)
        key = key_of(event)
        after = None if event.type == "DELETED" else event.object
        return Moment(count - 1, event, key, self._before(count, key), after)

    def _before(self, count: int, key: Key) -> msgspec.Raw | None:
        """The object before that event."""
        base = (count - 1) // EVERY
        for event in reversed(self.events[base * EVERY : count - 1]):
            if event.type in OBJECT_TYPES and key_of(event) == key:
                return None if event.type == "DELETED" else event.object
        return self._checkpoints[base].get(key)

    def density(self, buckets: int, end: int) -> list[dict[str, int]]:
        """Number of events after the initial list by resource, and of markers, in equal intervals until `end` ns."""
        found: list[dict[str, int]] = [{} for _ in range(buckets)]
        for event in self.events[self.initial :]:
            row = found[min(buckets - 1, event.t * buckets // end if end else 0)]
            name = "markers" if event.type in MARKER_TYPES else event.resource
            row[name] = row.get(name, 0) + 1
        return found

    @property
    def duration(self) -> int:
        """Nanoseconds from the recording's start to its last event."""
        return self._times[-1] if self._times else 0

    def around(self, count: int, before: int, after: int) -> Sequence[tuple[int, Event]]:
        """The events around a position, each with its number."""
        first = max(0, count - before)
        return list(enumerate(self.events[first : count + after], first + 1))


def read_history(recording: Recording) -> History:
    """All events of a recording. RecordingError for bad input, as its reader reports it."""
    history = History(recording.path, recording.header)
    for event in recording:
        try:
            history.add(event)
        except ValueError as error:
            raise recording.error(event, f"{event.type} {event.resource}: {error}") from None
    history.sha256 = recording.sha256
    return history
