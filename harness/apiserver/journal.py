"""Writes everything that happens in a store to a recording, which can be replayed, inspected and served."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from harness.apiserver.store import Store, StoreChange
from harness.log import RecordingError, initial_events_end
from harness.log.events import FORMAT, MARKER_TYPES, RESOURCES, VERSION, Event, Header
from harness.log.journal import LogFile

_encode = msgspec.json.Encoder().encode


class Journal:
    """A context manager that writes the contents of `store`, then each change, to a new .jsonl file.

    RecordingError if the file is not empty: another run is never overwritten.  Each event is passed to the operating
    system before the write that caused it returns, so that it outlives this process.
    `clock` returns nanoseconds; `began` is its value at `t` 0.
    """

    def __init__(
        self,
        path: str | Path,
        store: Store,
        cluster: dict[str, Any] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._path, self._store, self._cluster, self._clock = path, store, cluster or {}, clock
        self.began = 0
        self._log: LogFile
        self._unsubscribe: Callable[[], None] = lambda: None

    def __enter__(self) -> Journal:
        self._log = LogFile(self._path, sync=False)
        if not self._log.empty:
            self._log.close()
            raise RecordingError(str(self._path), None, "already contains a recording; choose another file")
        with self._store.lock:
            start = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self._log.begin(Header(FORMAT, VERSION, RESOURCES, start, self._cluster))
            self.began = self._clock()
            self._initial_list()
            self._unsubscribe = self._store.subscribe(self._take)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._unsubscribe()
        self._log.close()

    @property
    def seconds(self) -> float:
        """The current time on the recording's clock."""
        return (self._clock() - self.began) / 1e9

    def mark(self, type: str, resource: str, note: Mapping[str, object]) -> float:
        """Write a marker, such as a FAULT; returns its time in seconds on the recording's clock.

        ValueError for an unknown type.
        """
        if type not in MARKER_TYPES:
            raise ValueError(f"{type!r} is not a marker; choose from {', '.join(MARKER_TYPES)}")
        with self._store.lock:
            t = self._clock() - self.began
            self._write(type, resource, _encode(note), t)
        return t / 1e9

    def _initial_list(self) -> None:
        # Nodes first: a replay must know its node before the first Service.
        for resource in ("nodes", *(r for r in RESOURCES if r != "nodes")):
            for found in self._store.collection(resource).snapshot().objects:
                self._append("ADDED", resource, found.raw, 0)
            self._log.append(initial_events_end(self._log.seq + 1, 0, resource))
        self._log.flush()

    def _take(self, change: StoreChange) -> None:
        kind = change.object.kind
        if kind.recorded:
            self._write(change.type, kind.resource, change.object.raw, self._clock() - self.began)

    def _write(self, type: str, resource: str, raw: bytes, t: int) -> None:
        self._append(type, resource, raw, t)
        self._log.flush()

    def _append(self, type: str, resource: str, raw: bytes, t: int) -> None:
        self._log.append(Event(self._log.seq + 1, t, type, resource, msgspec.Raw(raw)))
