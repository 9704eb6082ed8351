"""A topic read as a recording: the same events, header and checksum as the file it is a copy of.

Only what was committed is read.  A seq that was here before is a repeat, made by whatever copied the
topic at least once, and is passed over.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import msgspec
from kafka import KafkaConsumer, TopicPartition

from harness.events import Event
from harness.kafka.address import Address, parse_address
from harness.kafka.errors import BrokerAway, TopicError, explained
from harness.kafka.topic import require_topic
from harness.recording.follow import Follow
from harness.recording.lines import LineDecoder, decode_header
from harness.recording.reader import WAITED
from harness.recording.window import Window

SILENCE_SECONDS = 60.0
"""How long a broker may keep silent before a reader that is not following gives up."""

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
    """A context manager that iterates `Event`s once, as `harness.recording.Recording` does."""

    own_format = True

    def __init__(self, url: str, follow: Follow | None = None) -> None:
        self.address = parse_address(url)
        self.path = str(self.address)
        self._decoder = LineDecoder(self.path, skip_repeats=True, unit="offset ")
        self._follow = follow
        self._window_taken = False
        self._sha = hashlib.sha256()
        require_topic(self.address)
        with explained(self.address):
            self._consumer = open_consumer(self.address)
        try:
            self._partition = TopicPartition(self.address.topic, 0)
            self._values = self._read_values()
            self.header = self._read_header()
        except BaseException:
            self._consumer.close()
            raise
        self._events = self._read()

    def __enter__(self) -> KafkaRecording:
        return self

    def __exit__(self, *_exception) -> None:
        self._consumer.close()

    def __iter__(self) -> Iterator[Event]:
        if self.address.start and not self._window_taken:
            raise TopicError(
                self.address, "from= asks for a folded beginning, which replay and copy make; leave it out"
            )
        return self._events

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read so far, as a .jsonl file of it would have."""
        return self._sha.hexdigest()

    @property
    def repeats(self) -> int:
        """Records passed over because their event was there before."""
        return self._decoder.repeats

    def take_window(self) -> Window:
        """The part that the URL asks for; who takes it sees to its start, the end is seen to here."""
        self._window_taken = True
        return Window(self.address.start, self.address.until)

    def line_of(self, event: Event) -> int | None:
        """Topics have no lines."""
        return None

    def error(self, event: Event, message: str) -> TopicError:
        """What is wrong with an event already given, with its place."""
        return TopicError(self.address, message, f"seq {event.seq}")

    def _read_header(self):
        offset, value = next((item for item in self._values if item[1] is not WAITED), (0, b""))
        try:
            decoded = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = None
        if not isinstance(decoded, dict) or "format" not in decoded:
            found = f"starts with {value[:16]!r} at offset {offset}" if value else "is empty"
            raise TopicError(self.address, f"the topic {found}; a recording begins with its header, at offset 0")
        self._sha.update(value)
        return decode_header(self.path, value, decoded)

    def _read(self) -> Iterator[Event]:
        decoder, follow = self._decoder, self._follow
        until = Window(None, self.address.until)
        for offset, line in self._values:
            if line is WAITED:
                if tick := follow.tick():
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
        """Offset and line of each record up to where the topic ends now; when following, of those to come too."""
        consumer, partition = self._consumer, self._partition
        with explained(self.address):
            end = consumer.end_offsets([partition])[partition]
            position, heard = 0, time.monotonic()
        while self._follow or position < end:
            with explained(self.address):
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
