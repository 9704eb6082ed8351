"""Sets up a recording: its destinations, its existing part, and the watchers."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kube.access import Access
from harness.kube.client import ApiError, Disconnected
from harness.kube.list_watch import ListWatch
from harness.kube.resources import BY_NAME, PROXIED
from harness.kube.scope import ResourceScope
from harness.log import RecordingError, open_source
from harness.log.events import OBJECT_TYPES, Event, Header, JsonObject
from harness.log.kafka.address import Address
from harness.record.ledger import Ledger
from harness.record.log import EventLog, spool_folder
from harness.record.recorder import Clock, Recorder, RecorderStopped, new_header
from harness.record.watcher import Watcher

if TYPE_CHECKING:
    from harness.log.kafka.sink import TopicWriter
    from harness.record.forward import Forwarder

CLOSING_SECONDS = 15.0
NOT_RUNNING = "the recorder was not running"


@dataclass(frozen=True)
class RecordOptions:
    """The user's options: `out`, `topic` or both; sizes are in bytes."""

    out: Path | None = None
    topic: Address | None = None
    access: Access = Access()
    resources: tuple[str, ...] = PROXIED
    namespaces: tuple[str, ...] = ()
    selectors: tuple[tuple[str, str], ...] = ()
    cluster: tuple[tuple[str, str], ...] = ()
    flush_seconds: float = 0.5
    spool: Path | None = None
    spool_bytes: int = 1 << 30


@dataclass
class RecordedState:
    """The state of a recording that is continued."""

    ledger: Ledger
    seq: int = 0
    t: int = 0
    listed: frozenset[str] = frozenset()

    def take(self, event: Event) -> None:
        """Apply one event."""
        self.seq, self.t = event.seq, event.t
        if event.type in OBJECT_TYPES:
            try:
                self.ledger.recall(event.type, event.resource, bytes(event.object))
            except ValueError as error:
                raise RecordingError("the recording so far", f"seq {event.seq}", str(error)) from None
        elif event.ends_initial_list:
            self.listed |= {event.resource}


@dataclass
class RecordSession:
    """An opened recording: run the recorder, then `close`."""

    recorder: Recorder
    log: EventLog
    past: RecordedState
    header: Header
    notes: tuple[str, ...] = ()
    """Warnings about what the header lacks, and why."""

    def close(self, patient: bool) -> bool:
        """Flush, and if `patient` wait some time for the topic; returns whether every destination is complete."""
        self.log.close()
        forwarder = self.recorder.forwarder
        if forwarder is None:
            return True
        complete = forwarder.stop(CLOSING_SECONDS if patient and not forwarder.trouble else 0.5)
        if complete:
            self.log.clear()
        return complete


def open_session(options: RecordOptions) -> RecordSession:
    """Begin a recording, or continue an existing one.

    RecordingError if a destination cannot hold it; AccessError, ApiError or Disconnected without a cluster.
    """
    api = ListWatch(options.access, dict(options.selectors))
    log = EventLog(options.out) if options.out else EventLog(_spool(options), spool=True)
    try:
        return _open(options, api, log)
    except BaseException:
        log.abandon()
        raise


def _open(options: RecordOptions, api: ListWatch, log: EventLog) -> RecordSession:
    from harness.log.kafka.trouble import BrokerAway

    me, writer = uuid.uuid4().bytes, None
    if options.topic:
        try:
            writer = _connect(options.topic, log.header if options.out else None, me)
        except BrokerAway:
            # Only a recording with an existing file can continue without its topic for a while.
            if not (options.out and log.header):
                raise
    header = log.header or (writer.header if writer else None)
    past = _past(log, options, writer.seq if writer else 0)
    notes: tuple[str, ...] = ()
    if header is None:
        cluster, notes = _cluster(api, options)
        header = new_header(options.resources, cluster)
    elif set(header.resources) != set(options.resources):
        raise RecordingError(
            str(options.out or options.topic), 1, f"was begun with {', '.join(header.resources)}; continue with these"
        )
    clock = _clock(header.start, past.t, str(options.out or options.topic))
    log.start(header, past.seq)
    fresh = not past.listed.issuperset(options.resources)
    recorder = Recorder(log, past.ledger, clock, fresh, options.spool_bytes, options.flush_seconds)
    if options.topic:
        recorder.forwarder = _forwarder(options.topic, log, header, me, writer)
    chance = random.Random().random
    for scope in _scopes(options):
        gap = None if fresh else NOT_RUNNING
        recorder.watchers.append(Watcher(api, scope, recorder.messages, recorder.go, gap, chance))
    return RecordSession(recorder, log, past, header, notes)


def _clock(start: str | None, last_t: int, place: str) -> Clock:
    """RecordingError if the start time is unknown: new events could not be timed."""
    try:
        return Clock(datetime.fromisoformat(start or ""), last_t)
    except (ValueError, TypeError):
        found = f"start is {start!r}, not a time with a time zone such as 2026-01-31T12:00:00Z" if start else "no start"
        raise RecordingError(place, 1, f"{found}: it cannot be continued; record to another file or topic") from None


def _spool(options: RecordOptions) -> Path:
    assert options.topic, "without a file there is a topic"
    return options.spool or spool_folder(options.topic.topic)


def _connect(address: Address, header: Header | None, me: bytes) -> TopicWriter:
    from harness.log.kafka.sink import TopicWriter

    return TopicWriter(address, header, me)


def _forwarder(address: Address, log: EventLog, header: Header, me: bytes, writer: TopicWriter | None) -> Forwarder:
    from harness.record.forward import Forwarder

    if writer:
        writer.agree(header)
    forwarder = Forwarder(log, lambda: _connect(address, header, me), me, random.Random().random, writer)
    forwarder.start()
    return forwarder


def _past(log: EventLog, options: RecordOptions, sent: int) -> RecordedState:
    """Fold the file; or the topic, and then what is only in the spool."""
    past = RecordedState(Ledger())
    if options.out is None and not log.keeps(sent):
        later = f"ends at seq {sent}, the spool in {_spool(options)} begins later"
        raise RecordingError(str(options.topic), None, f"{later}: it belongs to another topic, or events were lost")
    if options.out is None and sent:
        with open_source(str(options.topic)) as recording:
            _fold(past, recording)
    _fold(past, (event for event in log.stored() if event.seq > past.seq))
    if sent > past.seq:
        raise RecordingError(
            str(options.topic),
            None,
            f"has seq {sent}, {options.out} ends at {past.seq}: the file is incomplete",
        )
    return past


def _fold(past: RecordedState, events: Iterable[Event]) -> None:
    for event in events:
        past.take(event)


def _cluster(api: ListWatch, options: RecordOptions) -> tuple[JsonObject, tuple[str, ...]]:
    """The header's facts about the cluster, and warnings about missing ones."""
    services: list[str] = []
    notes: tuple[str, ...] = ()
    try:
        version = api.version()
        try:
            services = api.service_cidrs()
        except ApiError as error:
            if error.status != 403:
                raise
            notes = (
                f"the recording's header will lack serviceCIDRs: {error}; to include them, allow listing servicecidrs",
            )
    except (ApiError, Disconnected) as error:
        raise RecorderStopped(f"the API does not answer: {error}") from None
    known = {"name": api.cluster, "version": version, "serviceCIDRs": services, **dict(options.cluster)}
    return {key: value for key, value in known.items() if value}, notes


def _scopes(options: RecordOptions) -> list[ResourceScope]:
    return [
        ResourceScope(resource, namespace)
        for resource in options.resources
        for namespace in (options.namespaces if BY_NAME[resource].namespaced and options.namespaces else ("",))
    ]
