"""The recorder's main thread: turns the watchers' messages into numbered, timed events in the log."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from harness.failure import Failure
from harness.kube.scope import ResourceScope
from harness.log.events import FORMAT, VERSION, Event, Header, JsonObject
from harness.record.ledger import Ledger, LedgerChange, initial_list_ended, marker
from harness.record.log import EventLog
from harness.record.watcher import Listed, WatchedEvents, Watcher

if TYPE_CHECKING:
    from harness.record.forward import Forwarder

FLUSH_BYTES = 1 << 20
QUEUED = 1_000
"""Maximum queued messages, each at most one read from a watch or one list."""

TICK_SECONDS = 0.25
FIRST_TRIES = 5
"""Consecutive failed lists after which a recording that has not begun gives up; a running one keeps trying."""


class RecorderStopped(Failure, RuntimeError):
    """The recorder cannot continue without losing events; the message says why and what to do."""


@dataclass
class Counts:
    """What this run has recorded, and since when (monotonic seconds)."""

    began: float = field(default_factory=time.monotonic)
    types: Counter[str] = field(default_factory=Counter)
    resources: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """All events and markers."""
        return self.types.total()


@dataclass
class Mark:
    """A marker from another thread, written at its position in the queue; `t` is then its time."""

    change: LedgerChange
    written: threading.Event = field(default_factory=threading.Event)
    t: int = 0


class Clock:
    """The recording's clock: nanoseconds since `start`, monotonic even across restarts."""

    def __init__(self, start: datetime, last_t: int) -> None:
        since = datetime.now(UTC) - start
        elapsed = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
        self.origin = time.monotonic_ns() - max(elapsed, last_t)

    def now(self) -> int:
        """The current time."""
        return time.monotonic_ns() - self.origin


class Recorder:
    """Runs one recording; `watchers` feed `messages`."""

    def __init__(
        self, log: EventLog, ledger: Ledger, clock: Clock, fresh: bool, spool_bytes: int, flush_seconds: float
    ):
        """`fresh`: a new recording, whose initial lists are all at t 0."""
        self.log, self._ledger, self.clock, self._fresh = log, ledger, clock, fresh
        self._spool_bytes, self._flush_seconds = spool_bytes, flush_seconds
        self.messages: queue.Queue[Listed | WatchedEvents | Mark] = queue.Queue(QUEUED)
        self.go = threading.Event()
        self.counts = Counts()
        self.forwarder: Forwarder | None = None
        self.watchers: list[Watcher] = []
        self._unlisted: set[ResourceScope] = set()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask it to end; safe in a signal handler."""
        self._stopping.set()

    def run(self, report: Callable[[Recorder], None]) -> None:
        """Record until `stop`, calling `report` a few times per second. RecorderStopped, OSError, RecordingError."""
        self._unlisted = {watcher.health.scope for watcher in self.watchers}
        for watcher in self.watchers:
            watcher.start()
        flush_at = time.monotonic() + self._flush_seconds
        try:
            while not self._stopping.is_set():
                self._take_one(min(TICK_SECONDS, max(0.0, flush_at - time.monotonic())))
                if time.monotonic() >= flush_at or self.log.buffered >= FLUSH_BYTES:
                    self.log.flush()
                    flush_at = time.monotonic() + self._flush_seconds
                    self._check()
                    report(self)
        finally:
            for watcher in self.watchers:
                watcher.stop()
        self._drain()

    def mark(self, type_: str, resource: str, about: Mapping[str, object], seconds: float) -> int | None:
        """Write a marker, from any thread; returns its time, or None if it was not written within `seconds`."""
        mark = Mark(marker(type_, resource, **about))
        try:
            self.messages.put(mark, timeout=seconds)
        except queue.Full:
            return None
        return mark.t if mark.written.wait(seconds) else None

    @property
    def acknowledged(self) -> int:
        """The last seq known to be in the file and the topic."""
        return min(self.log.durable, self.forwarder.acknowledged) if self.forwarder else self.log.durable

    def _take_one(self, timeout: float) -> None:
        try:
            self._record(self.messages.get(timeout=timeout))
        except queue.Empty:
            return

    def _drain(self) -> None:
        """Record what had been read from the API before the stop."""
        while True:
            try:
                self._record(self.messages.get_nowait())
            except queue.Empty:
                return

    def _record(self, message: Listed | WatchedEvents | Mark) -> None:
        try:
            if isinstance(message, Mark):
                message.t = self._append([message.change])
                message.written.set()
            elif isinstance(message, Listed):
                self._listed(message)
            else:
                self._watched(message)
        except ValueError as error:
            raise RecorderStopped(f"the API sent an object that cannot be recorded: {error}") from None

    def _watched(self, message: WatchedEvents) -> None:
        resource = message.scope.resource
        for kind, manifest in message.events:
            if kind == "BOOKMARK":
                self._append([LedgerChange(kind, resource, manifest)])
            else:
                self._append(self._ledger.watched(kind, resource, manifest))

    def _listed(self, message: Listed) -> None:
        scope = message.scope
        first = self._fresh and scope in self._unlisted
        if not first:
            about = {"namespace": scope.namespace, "resourceVersion": message.version}
            self._append([marker("GAP", scope.resource, reason=message.gap, namespace=scope.namespace)])
            self._append([marker("RELIST", scope.resource, **about)])
        self._append(self._ledger.listed(scope, message.manifests))
        if scope in self._unlisted:
            self._unlisted.discard(scope)
            if self._fresh and all(other.resource != scope.resource for other in self._unlisted):
                self._append([initial_list_ended(scope.resource)])
        if not self._unlisted:
            self._fresh = False
            self.go.set()

    def _append(self, changes: Iterable[LedgerChange]) -> int:
        t = 0 if self._fresh else self.clock.now()
        for change in changes:
            self.log.append(Event(self.log.seq + 1, t, change.type, change.resource, msgspec.Raw(change.object)))
            self.counts.types[change.type] += 1
            self.counts.resources[change.resource] += 1
        return t

    def _check(self) -> None:
        for watcher in self.watchers:
            if watcher.health.error:
                raise watcher.health.error
            if watcher.health.denied and self._unlisted:
                raise RecorderStopped(f"{watcher.health.denied}; for the permissions needed see docs/recording.md")
            if self._fresh and not watcher.health.lists and watcher.health.failures >= FIRST_TRIES:
                raise RecorderStopped(f"cannot list {watcher.health.scope.resource}: {watcher.health.trouble}")
        if self.forwarder is None:
            return
        if self.forwarder.error:
            raise self.forwarder.error
        waiting = self.log.outstanding(self.forwarder.acknowledged)
        if waiting > self._spool_bytes:
            why = self.forwarder.trouble or "it is too slow"
            raise RecorderStopped(
                f"the topic is {waiting:,} bytes behind, more than --spool-limit: {why};"
                " nothing is lost, the next harness record first sends what is on disk"
            )


def new_header(resources: Iterable[str], cluster: JsonObject) -> Header:
    """The header of a new recording that starts now."""
    start = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Header(FORMAT, VERSION, tuple(resources), start, cluster)
