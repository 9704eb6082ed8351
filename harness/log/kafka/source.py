"""Reads a topic as a recording: the same events, header and checksum as the file of the same recording.

Only committed records are read.  A seq that occurred before is a repeat, left by an at-least-once copy of the topic,
and is skipped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import msgspec
from kafka import KafkaConsumer, TopicPartition

from harness.log.events import Event, Header
from harness.log.follow import WAITED, Follow
from harness.log.kafka.address import Address, parse_address
from harness.log.kafka.errors import BrokerAway, TopicError, translate_errors
from harness.log.kafka.topic import require_topic
from harness.log.lines import LineDecoder, read_header
from harness.log.window import Window

SILENCE_SECONDS = 60.0
"""How long a broker may be silent before a reader that does not follow gives up."""

POLL_MS = 500


def open_consumer(address: Address) -> KafkaConsumer:
    """A consumer of the topic's one partition, at its beginning; reads committed records only."""
    consumer = KafkaConsumer(
        **address.client,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_bytes=64 << 20,
        max_partition_fetch_bytes=16 << 20,
        max_poll_records=10_000,
        metrics_enabled=False,
        bootstrap_timeout_ms=15_000,
    )
    consumer.assign([TopicPartition(address.topic, 0)])
    return consumer


class KafkaRecording:
    """A topic as a `Recording`."""

    def __init__(self, url: str, follow: Follow | None = None) -> None:
        self.address = parse_address(url)
        self.path = str(self.address)
        self._follow = follow
        self._window_taken = False
        self._sha = hashlib.sha256()
        require_topic(self.address)
        with translate_errors(self.address):
            self._consumer = open_consumer(self.address)
        try:
            self._partition = TopicPartition(self.address.topic, 0)
            self._values = self._read_values()
            self.header, self.version = self._read_header()
        except BaseException:
            self._consumer.close()
            raise
        self._decoder = LineDecoder(self.path, self.version, skip_repeats=True, unit="offset ")
        self._events = self._read()

    def __enter__(self) -> KafkaRecording:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._consumer.close()

    def __iter__(self) -> Iterator[Event]:
        if self.address.start and not self._window_taken:
            raise TopicError(self.address, "from= is supported only by replay and copy; leave it out")
        return self._events

    @property
    def sha256(self) -> str:
        """SHA-256 of the data read so far, equal to that of the same .jsonl file."""
        return self._sha.hexdigest()

    @property
    def repeats(self) -> int:
        """Records skipped because their event was repeated."""
        return self._decoder.repeats

    def take_window(self) -> Window:
        """The part given in the URL; callers handle its start, its end is handled here."""
        self._window_taken = True
        return Window(self.address.start, self.address.until)

    def line_of(self, event: Event) -> int | None:
        """Topics have no lines."""
        return None

    def error(self, event: Event, message: str) -> TopicError:
        """An error about an event already returned, with its place."""
        return TopicError(self.address, message, f"seq {event.seq}")

    def _read_header(self) -> tuple[Header, int]:
        offset, value = next((item for item in self._values if item[1] is not WAITED), (0, b""))
        try:
            decoded = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = None
        if not isinstance(decoded, dict) or "format" not in decoded:
            found = f"starts with {value[:16]!r} at offset {offset}" if value else "is empty"
            raise TopicError(self.address, f"the topic {found}; a recording begins with its header, at offset 0")
        self._sha.update(value)
        return read_header(self.path, decoded)

    def _read(self) -> Iterator[Event]:
        decoder, follow = self._decoder, self._follow
        until = Window(None, self.address.until)
        for offset, line in self._values:
            if line is WAITED:
                if follow and (tick := follow.tick()):
                    yield tick
                continue
            event = decoder.event(line, offset)
            if event is None:
                continue
            if until.after(event):
                return
            self._sha.update(line)
            if follow:
                follow.saw(event)
            yield event

    def _read_values(self) -> Iterator[tuple[int, bytes]]:
        """Offset and line of each record up to the current end of the topic; when following, also of later ones."""
        consumer, partition = self._consumer, self._partition
        with translate_errors(self.address):
            end = consumer.end_offsets([partition])[partition]
            position, heard = 0, time.monotonic()
        while self._follow or position < end:
            with translate_errors(self.address):
                found = consumer.poll(timeout_ms=POLL_MS)
                reached = consumer.position(partition, timeout_ms=POLL_MS)
            for record in found.get(partition, ()):
                yield record.offset, (record.value or b"") + b"\n"
            if self._follow and not found:
                if not self._follow.wait():
                    return
                yield position, WAITED
            if reached is not None and reached > position:
                position, heard = reached, time.monotonic()
            elif not self._follow and time.monotonic() - heard > SILENCE_SECONDS:
                raise BrokerAway(self.address, f"no answer for {SILENCE_SECONDS:.0f} s at offset {position} of {end}")
