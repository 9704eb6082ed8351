"""Writes a recording to a topic: each event exactly once, whatever fails.

The producer's transactional id is the topic's name.  Opening it fences every earlier producer, including batches of a
dead recorder still in flight, and aborts their open transactions; only then is the topic's last seq read.  Writing
continues from there, so nothing is lost or duplicated.  A transaction's last record identifies the process that wrote
it, so that a reopened writer can distinguish its own records from another's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import zstandard
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.kafka.address import Address
from harness.log.kafka.errors import BrokerAway, TopicError, translate_errors
from harness.log.kafka.source import POLL_MS, open_consumer
from harness.log.kafka.topic import ensure_topic
from harness.log.lines import LineDecoder, event_line, header_line, read_header
from harness.log.versions import require_own_version

SCHEMA = ("schema", f"{FORMAT}/{VERSION}".encode())
BATCH_EVENTS, BATCH_BYTES = 5_000, 8 << 20
"""Bounds of one transaction."""

_RECORD_BYTES = 256
"""Maximum overhead of headers and framing of a single record in its batch."""

_LARGEST = 16 << 20


class _Metadata(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str | None = None
    resourceVersion: str | None = None


class _Object(msgspec.Struct, gc=False):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_decode = msgspec.json.Decoder(_Object).decode


def record_of(event: Event) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of the event's record."""
    try:
        metadata = _decode(event.object).metadata
    except msgspec.DecodeError:
        metadata = _Metadata()
    key = "/".join((event.resource, metadata.namespace or "", metadata.name))
    version = (metadata.resourceVersion or "").encode()
    return key.encode(), event_line(event)[:-1], [SCHEMA, ("resourceVersion", version)]


class TopicWriter:
    """Appends to one topic. `seq` is the last event in it, or 0; `last_writer` wrote it."""

    def __init__(self, address: Address, header: Header | None, me: bytes, timeout_ms: int = 20_000) -> None:
        """Open, create the topic if needed, and fence other writers.

        `header` is that of the recording; None uses the topic's. TopicError if the topic contains another
        recording or cannot hold one, BrokerAway if the broker does not answer.
        """
        self.address = address
        self._mine = ("writer", me)
        self._limit = ensure_topic(address)
        with translate_errors(address):
            self._producer = KafkaProducer(
                **address.client,
                transactional_id=f"kube-proxy-harness/{address.topic}",
                enable_idempotence=True,
                acks="all",
                compression_type="zstd",
                batch_size=min(256 << 10, self._limit),
                linger_ms=5,
                max_request_size=_LARGEST,
                max_block_ms=timeout_ms,
                delivery_timeout_ms=timeout_ms,
                request_timeout_ms=min(timeout_ms - 1_000, 30_000),
                bootstrap_timeout_ms=15_000,
                metrics_enabled=False,
            )
        try:
            with translate_errors(address):
                self._producer.init_transactions()
                self.header, self.seq, self.last_writer = _ends_of(address, timeout_ms / 1000)
            self.agree(header)
        except BaseException:
            self.close(0)
            raise

    def write(self, events: list[Event]) -> int:
        """Append in one transaction; returns the last seq in the topic. After an error, open a new writer."""
        if events and events[0].seq <= self.seq:
            raise ValueError(f"seq {events[0].seq} after {self.seq}")
        with translate_errors(self.address):
            self._producer.begin_transaction()
            records = [record_of(event) for event in events]
            if records:
                records[-1][2].append(self._mine)
            futures = [self._send(*record) for record in records]
            self._producer.commit_transaction()
            if futures and futures[-1].failed():
                raise futures[-1].exception
        self.seq = events[-1].seq if events else self.seq
        return self.seq

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Close the connection; an open transaction is aborted by the next writer."""
        try:
            self._producer.close(timeout_seconds)
        except KafkaError:
            # kafka-python keeps its sender running while records are in flight; discard them.
            self._producer._sender.force_close()

    def agree(self, header: Header | None) -> None:
        """Write the header to an empty topic; TopicError if it contains another recording."""
        if self.header is None and header is not None:
            with translate_errors(self.address):
                self._producer.begin_transaction()
                self._send(b"header", header_line(header)[:-1], [SCHEMA])
                self._producer.commit_transaction()
            self.header = header
        elif self.header is not None and header is not None and self.header != header:
            raise TopicError(
                self.address,
                f"contains another recording, started {self.header.start or 'at an unknown time'};"
                f" this one started {header.start}; choose another topic",
            )

    def _send(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> Any:
        # If the broker rejects a record for its size, its transaction can never end.
        size = len(value) + len(key) + _RECORD_BYTES
        if size > self._limit and len(zstandard.compress(value)) + len(key) + _RECORD_BYTES > self._limit:
            raise TopicError(
                self.address,
                f"{key.decode(errors='replace')}: an event of {len(value):,} bytes is too large for the topic's"
                f" max.message.bytes of {self._limit:,}; raise max.message.bytes",
            )
        return self._producer.send(self.address.topic, value, key, headers, partition=0)


def _ends_of(address: Address, patience: float) -> tuple[Header | None, int, bytes]:
    """The topic's header, its last seq and the writer of that; None, 0 and b"" if empty."""
    partition = TopicPartition(address.topic, 0)
    consumer = open_consumer(address)
    try:
        first = consumer.beginning_offsets([partition])[partition]
        end = consumer.end_offsets([partition])[partition]
        if first:
            raise TopicError(address, f"its first {first} records were deleted: it cannot be continued")
        read = partial(_records, address, consumer, partition, patience)
        head = next(read(0, end), None)
        if head is None:
            return None, 0, b""
        try:
            header, version = read_header(str(address), msgspec.json.decode(head.value or b"", type=dict[str, Any]))
        except (msgspec.DecodeError, KeyError):
            raise TopicError(address, "does not contain a recording; choose another topic") from None
        require_own_version(str(address), version)
        return header, *_last(address, read, end)
    finally:
        consumer.close()


def _last(address: Address, read: Callable[[int, int], Iterator[ConsumerRecord]], end: int) -> tuple[int, bytes]:
    """Search backwards from the end in growing steps: aborted records and markers use offsets without data."""
    step = 256
    while True:
        start = max(1, end - step)
        found = list(read(start, end))
        if found:
            last = found[-1]
            decoder = LineDecoder(str(address), unit="offset ")
            decoder.event((last.value or b"") + b"\n", last.offset)
            return decoder.seq, dict(last.headers).get("writer", b"")
        if start == 1:
            return 0, b""
        step *= 8


def _records(
    address: Address, consumer: KafkaConsumer, partition: TopicPartition, patience: float, start: int, end: int
) -> Iterator[ConsumerRecord]:
    """The committed records from `start` to `end`; BrokerAway if the broker is silent for `patience` seconds."""
    consumer.seek(partition, start)
    position, heard = start, time.monotonic()
    while position < end:
        yield from consumer.poll(timeout_ms=POLL_MS).get(partition, ())
        reached = consumer.position(partition, timeout_ms=POLL_MS)
        if reached is not None and reached > position:
            position, heard = reached, time.monotonic()
        elif time.monotonic() - heard > patience:
            raise BrokerAway(address, f"no answer for {patience:.0f} s at offset {position} of {end}")
