"""What can go wrong with a topic, sorted once: what passes by itself, and what somebody must change."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import kafka.errors as kafka

from harness.kafka.address import Address
from harness.recording.errors import RecordingError

_DENIED = (kafka.AuthorizationError, kafka.SaslAuthenticationFailedError, kafka.UnsupportedSaslMechanismError)
_LIMITS = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_GAVE_UP = (kafka.KafkaTimeoutError, kafka.RequestTimedOutError)
_SETTINGS = (kafka.KafkaConfigurationError, kafka.InvalidTopicError, kafka.TopicAuthorizationFailedError)


class _Failures(logging.Handler):
    """Keeps why the last connection failed: a client that gives up says only that it did, and logs the reason."""

    last: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, Exception) and not isinstance(argument, _GAVE_UP):
                self.last = argument


_failures = _Failures(logging.WARNING)
logging.getLogger("kafka.net.manager").addHandler(_failures)


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

    What refuses a certificate, or a connection before it is authenticated, is told as such but counts as away:
    brokers that restart look the same.  So does a fenced producer, as a coordinator that was away fences too;
    who opens anew sees whether someone else has written.
    """
    _failures.last = None
    try:
        yield
    except _DENIED as error:
        raise TopicError(address, f"refused: {_text(error)}; see --kafka-config and the ACLs") from error
    except _LIMITS as error:
        raise TopicError(address, f"an event is too large: {_text(error)}; raise max.message.bytes") from error
    except _SETTINGS as error:
        raise TopicError(address, _text(error)) from error
    except kafka.KafkaError as error:
        raise BrokerAway(address, f"the broker does not answer: {_reason(error)}") from error


def _reason(error: kafka.KafkaError) -> str:
    """In words; why there was no connection, where that is it."""
    cause = _failures.last if isinstance(error, kafka.KafkaTimeoutError) else None
    if cause is None:
        return _text(error)
    if "disconnected" in str(cause):
        return "it ends every connection; does it want TLS, or another name and password? see --kafka-config"
    if "Handshake failed" in str(cause):
        return f"{_text(cause)}; see --kafka-config"
    return _text(cause)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
