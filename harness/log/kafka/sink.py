"""A topic written as a recording: each event once, whatever dies when.

The producer is transactional under the topic's name.  Opening it fences every earlier one, also a dead
recorder's batches that are still on their way, and aborts what they left open; only then is the topic's
last seq read.  Who writes goes on from there, so nothing is lost or doubled.  A transaction's last record
names the process that wrote it, so a writer which opens anew can tell its own records from those of another.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from harness.events import FORMAT, VERSION, Event, Header
from harness.kafka.address import Address
from harness.kafka.errors import TopicError, explained
from harness.kafka.source import open_consumer
from harness.kafka.topic import ensure_topic
from harness.recording.lines import LineDecoder, event_line, header_line

SCHEMA = ("schema", f"{FORMAT}/{VERSION}".encode())
BATCH_EVENTS, BATCH_BYTES = 5_000, 8 << 20
"""Bounds of one transaction."""

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
    """Appends to one topic. `seq` is the last event in it, 0 when there is none; `last_writer` wrote it."""

    def __init__(self, address: Address, header: Header | None, me: bytes, timeout_ms: int = 20_000) -> None:
        """Open, make the topic if need be, and fence other writers.

        `header` is that of the recording; None takes the topic's. TopicError when the topic holds another
        recording or cannot hold one, BrokerAway when nobody answers.
        """
        self.address = address
        self._mine = ("writer", me)
        ensure_topic(address)
        with explained(address):
            self._producer = KafkaProducer(
                **address.client,
                transactional_id=f"kube-proxy-harness/{address.topic}",
                enable_idempotence=True,
                acks="all",
                compression_type="zstd",
                batch_size=256 << 10,
                linger_ms=5,
                max_request_size=_LARGEST,
                max_block_ms=timeout_ms,
                delivery_timeout_ms=timeout_ms,
                request_timeout_ms=min(timeout_ms - 1_000, 30_000),
                bootstrap_timeout_ms=15_000,
                metrics_enabled=False,
            )
        try:
            with explained(address):
                self._producer.init_transactions()
                self.header, self.seq, self.last_writer = _ends_of(address)
            self.agree(header)
        except BaseException:
            self.close(0)
            raise

    def write(self, events: list[Event]) -> int:
        """Append in one transaction; returns the last seq in the topic. After an error, open a new writer."""
        if events and events[0].seq <= self.seq:
            raise ValueError(f"seq {events[0].seq} after {self.seq}")
        with explained(self.address):
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
        """Let go of the connection; an open transaction is aborted by whoever opens next."""
        try:
            self._producer.close(timeout_seconds)
        except KafkaError:
            # kafka-python leaves its sender running when records are still on their way; here they are given up.
            self._producer._sender.force_close()

    def agree(self, header: Header | None) -> None:
        """Write the header into an empty topic; TopicError when another recording is in it."""
        if self.header is None and header is not None:
            with explained(self.address):
                self._producer.begin_transaction()
                self._send(b"header", header_line(header)[:-1], [SCHEMA])
                self._producer.commit_transaction()
            self.header = header
        elif header is not None and self.header != header:
            raise TopicError(
                self.address,
                f"holds another recording, started {self.header.start or 'at an unknown time'};"
                f" this one started {header.start}: name another topic",
            )

    def _send(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]]):
        return self._producer.send(self.address.topic, value, key, headers, partition=0)


def _ends_of(address: Address) -> tuple[Header | None, int, bytes]:
    """The topic's header, its last seq and who wrote that; None, 0 and b"" when it is empty."""
    partition = TopicPartition(address.topic, 0)
    consumer = open_consumer(address)
    try:
        first = consumer.beginning_offsets([partition])[partition]
        end = consumer.end_offsets([partition])[partition]
        if first:
            raise TopicError(address, f"its first {first} records were deleted: it cannot be continued")
        head = next(_records(consumer, partition, 0, end), None)
        if head is None:
            return None, 0, b""
        try:
            header = msgspec.json.decode(head.value or b"", type=Header)
        except msgspec.DecodeError:
            raise TopicError(address, "holds something else than a recording; name another topic") from None
        return header, *_last(address, consumer, partition, end)
    finally:
        consumer.close()


def _last(address: Address, consumer: KafkaConsumer, partition: TopicPartition, end: int) -> tuple[int, bytes]:
    """Looks back from the end, further each time: aborted records and markers take offsets, but give nothing."""
    step = 256
    while True:
        start = max(1, end - step)
        found = list(_records(consumer, partition, start, end))
        if found:
            last = found[-1]
            seq = LineDecoder(str(address), unit="offset ").event((last.value or b"") + b"\n", last.offset).seq
            return seq, dict(last.headers).get("writer", b"")
        if start == 1:
            return 0, b""
        step *= 8


def _records(consumer: KafkaConsumer, partition: TopicPartition, start: int, end: int) -> Iterator[ConsumerRecord]:
    consumer.seek(partition, start)
    while consumer.position(partition) < end:
        yield from consumer.poll(timeout_ms=500).get(partition, ())
