"""The two errors of topics, importable without a Kafka client."""

from __future__ import annotations

from harness.log.errors import RecordingError
from harness.log.kafka.address import Address


class TopicError(RecordingError):
    """An error that needs a change: of the topic, its settings, permissions, or other writers."""

    def __init__(self, address: Address, message: str, place: str | None = None) -> None:
        super().__init__(str(address), place, message)


class BrokerAway(RecordingError):
    """The brokers do not answer; retrying later may help."""

    def __init__(self, address: Address, message: str) -> None:
        super().__init__(str(address), None, message)
