"""What can go wrong with a topic, sorted once: what passes by itself, and what somebody must change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import kafka.errors as kafka

from harness.kafka.address import Address
from harness.recording.errors import RecordingError

_DENIED = (kafka.AuthorizationError, kafka.SaslAuthenticationFailedError, kafka.UnsupportedSaslMechanismError)
_LIMITS = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_SETTINGS = (kafka.KafkaConfigurationError, kafka.InvalidTopicError, kafka.TopicAuthorizationFailedError)


class TopicError(RecordingError):
    """Somebody must change something: the topic, its settings, rights, or who else writes it."""

    def __init__(self, address: Address, message: str, place: str | None = None) -> None:
        super().__init__(str(address), place, message)


class BrokerAway(RecordingError):
    """The brokers do not answer, or not now; trying again later may help."""

    def __init__(self, address: Address, message: str) -> None:
        super().__init__(str(address), None, message)


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turns kafka-python's errors into TopicError or BrokerAway.

    A fenced producer counts as the latter: a coordinator that was away fences too.  Who opens anew sees
    whether someone else has written.
    """
    try:
        yield
    except _DENIED as error:
        raise TopicError(address, f"refused: {_text(error)}; see --kafka-config and the ACLs") from error
    except _LIMITS as error:
        raise TopicError(address, f"an event is too large: {_text(error)}; raise max.message.bytes") from error
    except _SETTINGS as error:
        raise TopicError(address, _text(error)) from error
    except kafka.KafkaError as error:
        raise BrokerAway(address, f"the broker does not answer: {_text(error)}") from error


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
