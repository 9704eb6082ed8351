"""Puts a recording together: where it goes, what of it exists already, and who watches what."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.events import OBJECT_TYPES, Event, Header
from harness.kafka.address import Address
from harness.record.api import CLUSTER_WIDE, Access, Api, ApiError, Disconnected
from harness.record.ledger import Ledger, Scope
from harness.record.log import Log, spool_folder
from harness.record.recorder import Clock, Recorder, RecorderStopped, new_header
from harness.record.watcher import Watcher
from harness.recording import RecordingError, open_source

CLOSING_SECONDS = 15.0
NOT_RUNNING = "the recorder was not running"


@dataclass(frozen=True)
class Options:
    """What a user may choose. `out`, `topic` or both; sizes in bytes."""

    out: Path | None = None
    topic: Address | None = None
    access: Access = Access()
    resources: tuple[str, ...] = ("nodes", "services", "endpointslices")
    namespaces: tuple[str, ...] = ()
    selectors: tuple[tuple[str, str], ...] = ()
    cluster: tuple[tuple[str, str], ...] = ()
    flush_seconds: float = 0.5
    spool: Path | None = None
    spool_bytes: int = 1 << 30


@dataclass
class Past:
    """What a continued recording says already."""

    ledger: Ledger
    seq: int = 0
    t: int = 0
    listed: frozenset[str] = frozenset()

    def take(self, event: Event) -> None:
        """Fold one event in."""
        self.seq, self.t = event.seq, event.t
        if event.type in OBJECT_TYPES:
            try:
                self.ledger.recall(event.type, event.resource, bytes(event.object))
            except ValueError as error:
                raise RecordingError("the recording so far", f"seq {event.seq}", str(error)) from None
        elif event.ends_initial_list:
            self.listed |= {event.resource}


@dataclass
class Session:
    """An opened recording: run the recorder, then `close`."""

    recorder: Recorder
    log: Log
    past: Past
    header: Header

    def close(self, patient: bool) -> bool:
        """Flush, and give the topic some time to get the rest, if `patient`; whether every place has everything."""
        self.log.close()
        forwarder = self.recorder.forwarder
        if forwarder is None:
            return True
        complete = forwarder.stop(CLOSING_SECONDS if patient and not forwarder.trouble else 0.5)
        if complete:
            self.log.clear()
        return complete


def open_session(options: Options) -> Session:
    """Begin a recording, or continue the one that is there.

    RecordingError when a place cannot hold it, AccessError, ApiError or Disconnected without a cluster.
    """
    api = Api(options.access, dict(options.selectors))
    log = Log(options.out) if options.out else Log(options.spool or spool_folder(options.topic.topic), spool=True)
    try:
        return _open(options, api, log)
    except BaseException:
        log.abandon()
        raise


def _open(options: Options, api: Api, log: Log) -> Session:
    from harness.kafka.errors import BrokerAway

    me, writer = uuid.uuid4().bytes, None
    if options.topic:
        try:
            writer = _connect(options.topic, log.header if options.out else None, me)
        except BrokerAway:
            # A file that is there already can go on without its topic for a while; anything else cannot.
            if not (options.out and log.header):
                raise
    header = log.header or (writer.header if writer else None)
    past = _past(log, options, writer.seq if writer else 0)
    if header is None:
        header = new_header(options.resources, _cluster(api, options))
    elif set(header.resources) != set(options.resources):
        raise RecordingError(
            str(options.out or options.topic), 1, f"was begun with {', '.join(header.resources)}; continue with these"
        )
    log.start(header, past.seq)
    fresh = not past.listed.issuperset(options.resources)
    clock = Clock(header.start, past.t)
    recorder = Recorder(log, past.ledger, clock, fresh, options.spool_bytes, options.flush_seconds)
    if options.topic:
        recorder.forwarder = _forwarder(options, log, header, me, writer)
    chance = random.Random().random
    for scope in _scopes(options):
        gap = None if fresh else NOT_RUNNING
        recorder.watchers.append(Watcher(api, scope, recorder.messages, recorder.go, gap, chance))
    return Session(recorder, log, past, header)


def _connect(address: Address, header: Header | None, me: bytes):
    from harness.kafka.sink import TopicWriter

    return TopicWriter(address, header, me)


def _forwarder(options: Options, log: Log, header: Header, me: bytes, writer):
    from harness.record.forward import Forwarder

    if writer:
        writer.agree(header)
    forwarder = Forwarder(log, lambda: _connect(options.topic, header, me), me, random.Random().random, writer)
    forwarder.start()
    return forwarder


def _past(log: Log, options: Options, sent: int) -> Past:
    """Folds the file; or the topic, and then what is in the spool and not in the topic."""
    past = Past(Ledger())
    if options.out is None and not log.keeps(sent):
        later = f"ends at seq {sent}, the spool in {options.spool or spool_folder(options.topic.topic)} begins later"
        raise RecordingError(str(options.topic), None, f"{later}: it is of another topic, or events were lost")
    if options.out is None and sent:
        with open_source(str(options.topic)) as recording:
            _fold(past, recording)
    _fold(past, (event for event in log.stored() if event.seq > past.seq))
    if sent > past.seq:
        raise RecordingError(
            str(options.topic),
            None,
            f"has seq {sent}, {options.out} ends at {past.seq}: the file is not the whole of it",
        )
    return past


def _fold(past: Past, events: Iterable[Event]) -> None:
    for event in events:
        past.take(event)


def _cluster(api: Api, options: Options) -> dict:
    try:
        version, services = api.version(), api.service_cidrs()
    except (ApiError, Disconnected) as error:
        raise RecorderStopped(f"the API does not answer: {error}") from None
    known = {"name": api.name, "version": version, "serviceCIDRs": services, **dict(options.cluster)}
    return {key: value for key, value in known.items() if value}


def _scopes(options: Options) -> list[Scope]:
    return [
        Scope(resource, namespace)
        for resource in options.resources
        for namespace in (options.namespaces if resource not in CLUSTER_WIDE and options.namespaces else ("",))
    ]
