"""Forwards the log to the topic: a thread that sends the events that are on disk and not yet in the topic.

Any failure ends the connection; a new one reads the end of the topic and continues from there.  So starting,
recovering and continuing are the same code path.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from harness.log import RecordingError
from harness.log.kafka.sink import BATCH_BYTES, BATCH_EVENTS, TopicWriter
from harness.log.kafka.trouble import BrokerAway, TopicError
from harness.record.log import EventLog
from harness.record.recovery import Recovery, WatchOutcome

PATIENCE = 3.0
"""Seconds a batch may take before it is reported."""

Connect = Callable[[], TopicWriter]


class Forwarder(threading.Thread):
    """`acknowledged` is the last seq known to be in the topic; `trouble` is the reason why forwarding is stalled."""

    def __init__(
        self, log: EventLog, connect: Connect, me: bytes, chance: Callable[[], float], writer: TopicWriter | None
    ):
        """`writer` is an open connection; `connect` opens further ones."""
        super().__init__(name="forwarder", daemon=True)
        self._log, self._connect, self._me, self._writer = log, connect, me, writer
        self._recovery = Recovery(chance)
        self._ending = threading.Event()
        self.acknowledged = writer.seq if writer else 0
        self._trouble: str | None = None
        self._sending_since: float | None = None
        self.error: RecordingError | OSError | None = None

    @property
    def trouble(self) -> str | None:
        """The reason why forwarding is stalled, such as an unanswered request; None if it is not."""
        since = self._sending_since
        silence = time.monotonic() - since if since else 0.0
        return self._trouble or (f"the broker does not answer for {silence:.0f} s" if silence > PATIENCE else None)

    def run(self) -> None:
        """Send until the log is closed and completely sent, or until `stop`."""
        try:
            while not self._ending.is_set() and not self._send_all():
                pass
        except (RecordingError, OSError) as error:
            self.error = error
        finally:
            if self._writer:
                self._writer.close()

    def stop(self, wait_seconds: float) -> bool:
        """Wait up to `seconds` for the rest of a closed log to be sent; returns whether all was sent."""
        self.join(wait_seconds)
        self._ending.set()
        if self.is_alive() and self._writer:
            self._writer.close(0)  # it may be waiting for an answer forever
        return not self.is_alive() and self.error is None and self.acknowledged >= self._log.durable

    def _send_all(self) -> bool:
        """Whether all was sent; False after a transient failure and a pause."""
        try:
            self._writer = self._writer or self._open()
            self._trouble = None
            for batch in self._log.after(self._writer.seq, BATCH_EVENTS, BATCH_BYTES):
                self._sending_since = time.monotonic()
                self.acknowledged = self._writer.write(batch)
                self._sending_since = None
                self._log.drop(self.acknowledged)
                self._recovery.failures = 0
                if self._ending.is_set():
                    return False
            return True
        except BrokerAway as error:
            self._trouble, self._sending_since = str(error), None
            if self._writer:
                self._writer.close(0)
            self._writer = None
            self._ending.wait(self._recovery.after(WatchOutcome.AWAY).wait_seconds)
            return False

    def _open(self) -> TopicWriter:
        writer = self._connect()
        problem = None
        if writer.seq > self.acknowledged and self.acknowledged and writer.last_writer != self._me:
            problem = "another recorder writes to this topic; this one stops"
        elif writer.seq > self._log.durable:
            problem = f"has seq {writer.seq}, but the local recording ends at {self._log.durable}: it has lost its end"
        elif writer.seq < self.acknowledged and not self._log.keeps(writer.seq):
            problem = f"lost acknowledged events: it ends at seq {writer.seq}, but {self.acknowledged} was acknowledged"
        if problem:
            writer.close(0)
            raise TopicError(writer.address, problem)
        self.acknowledged = writer.seq
        return writer
