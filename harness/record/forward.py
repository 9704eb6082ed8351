"""The topic follows the log: a thread that sends what is on the disk and the topic has not got.

Any failure ends the connection; a new one reads how far the topic is and goes on from there.  So there is
one way to start, to recover and to continue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from harness.kafka.errors import BrokerAway, TopicError
from harness.kafka.sink import BATCH_BYTES, BATCH_EVENTS, TopicWriter
from harness.record.log import Log
from harness.record.recovery import Outcome, Recovery
from harness.recording import RecordingError

PATIENCE = 3.0
"""Seconds a batch may take before that is worth a word."""

Connect = Callable[[], TopicWriter]


class Forwarder(threading.Thread):
    """`acknowledged` is the last seq the topic has for certain; `trouble` says why it does not go on now."""

    def __init__(self, log: Log, connect: Connect, me: bytes, chance: Callable[[], float], writer: TopicWriter | None):
        """`writer` is a connection that is open already; `connect` makes the next ones."""
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
        """What keeps it from going on, also while it waits for an answer; None when all is well."""
        since = self._sending_since
        silence = time.monotonic() - since if since else 0.0
        return self._trouble or (f"the broker does not answer for {silence:.0f} s" if silence > PATIENCE else None)

    def run(self) -> None:
        """Send until the log is closed and all of it sent, or until `stop`."""
        try:
            while not self._ending.is_set() and not self._send_all():
                pass
        except (RecordingError, OSError) as error:
            self.error = error
        finally:
            if self._writer:
                self._writer.close()

    def stop(self, wait_seconds: float) -> bool:
        """Give it that long to send what is left of a closed log; whether it has sent all."""
        self.join(wait_seconds)
        self._ending.set()
        if self.is_alive() and self._writer:
            self._writer.close(0)  # it waits for an answer that may never come
        return not self.is_alive() and self.error is None and self.acknowledged >= self._log.durable

    def _send_all(self) -> bool:
        """Whether all was sent; False after a failure that may pass, and its pause."""
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
            self._ending.wait(self._recovery.after(Outcome.AWAY).wait_seconds)
            return False

    def _open(self) -> TopicWriter:
        writer = self._connect()
        problem = None
        if writer.seq > self.acknowledged and self.acknowledged and writer.last_writer != self._me:
            problem = "another recorder writes this topic; this one stops"
        elif writer.seq > self._log.durable:
            problem = f"has seq {writer.seq}, the recording here ends at {self._log.durable}: it lost its end"
        elif writer.seq < self.acknowledged and not self._log.keeps(writer.seq):
            problem = (
                f"lost what it had acknowledged: it ends at seq {writer.seq}, {self.acknowledged} was acknowledged"
            )
        if problem:
            writer.close(0)
            raise TopicError(writer.address, problem)
        self.acknowledged = writer.seq
        return writer
