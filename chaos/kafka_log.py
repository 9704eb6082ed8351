"""Copies a lab's event log to Kafka: starts a broker for the run and ships the log file to a topic.

The file is the spool: it is complete whatever happens to the broker, and an interrupted copy continues where the topic
ends.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from itertools import zip_longest
from pathlib import Path

from chaos.run_facts import KafkaFacts
from harness.log import RecordingError, open_source
from harness.log.kafka.broker import BOUND, Broker

TOPIC = "lab"
AGAIN_SECONDS, STOP_SECONDS = 0.5, 60.0


class KafkaLog:
    """The broker lives in `folder`, the log grows in the file `log`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._broker, self._log = Broker(folder, bound=True), log
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._ship, name="kafka-log", daemon=True)

    @property
    def up(self) -> bool:
        """Whether the broker runs."""
        return self._broker.pid is not None

    @property
    def url(self) -> str:
        """The topic as a source."""
        return f"kafka://{self._broker.bootstrap}/{TOPIC}"

    def start(self) -> None:
        """Start the broker, then shipping; BrokerError if the broker is not available."""
        self._broker.up()
        self._thread.start()

    def kill(self) -> None:
        """Kill the broker."""
        self._broker.down(signal.SIGKILL)

    def restart(self) -> None:
        """Restart the broker on the same port."""
        if not self.up:
            self._broker.up(self._broker.port)

    def _ship(self) -> None:
        """Ship the log to the topic; restart if the broker was down for longer than the copy waits."""
        while not self._ended.is_set():
            self._process = self._copy("--follow")
            while self._process.poll() is None and not self._ended.wait(AGAIN_SECONDS):
                pass
        if self._process:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)

    def _copy(self, *options: str) -> subprocess.Popen[bytes]:
        command = [*BOUND, sys.executable, "-m", "harness", "copy", str(self._log), self.url, *options]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def finish(self) -> KafkaFacts:
        """Stop shipping, send the rest, compare topic and file."""
        self._ended.set()
        self._thread.join(STOP_SECONDS)
        try:
            self._copy().wait(STOP_SECONDS)
            events, complete = _compare(str(self._log), self.url)
        except (RecordingError, OSError, subprocess.TimeoutExpired) as error:
            return KafkaFacts(self.url, 0, complete=False, error=str(error))
        return KafkaFacts(self.url, events, complete)

    def close(self) -> None:
        """Stop the broker."""
        self._ended.set()
        self._broker.down()


def _compare(file: str, topic: str) -> tuple[int, bool]:
    """The number of events in the file, and whether the topic equals it."""
    count, same = 0, True
    with open_source(file) as written, open_source(topic) as shipped:
        for one, other in zip_longest(written, shipped):
            count += one is not None
            same &= one == other
    return count, same
