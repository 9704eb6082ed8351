"""Classifies errors of topics: transient ones, and those that need a change."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import kafka.errors as kafka

from harness.log.kafka.address import Address
from harness.log.kafka.trouble import BrokerAway, TopicError

_DENIED = (kafka.AuthorizationError, kafka.SaslAuthenticationFailedError, kafka.UnsupportedSaslMechanismError)
_LIMITS = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_REQUIRED = "does it require TLS or other credentials? see --kafka-config"
"""Also reported if a response has no valid frame: a broker that expects TLS answers anything else with a TLS alert."""
_GAVE_UP = (kafka.KafkaTimeoutError, kafka.RequestTimedOutError)
SILENT = "it accepts connections but does not answer requests; is its process stopped or overloaded?"
_SETTINGS = (kafka.KafkaConfigurationError, kafka.InvalidTopicError, kafka.TopicAuthorizationFailedError)


class _Failures(logging.Handler):
    """Records why the last connection failed, which the client only logs: its exception does not contain it.

    The attempt cut off by the client's deadline only timed out: the reason is that of earlier attempts.  A broker that
    rejects the credentials reports that in some attempts, and closes the connection in others.
    """

    last: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        for argument in record.args if isinstance(record.args, tuple) else ():
            if not isinstance(argument, Exception) or isinstance(argument, _GAVE_UP):
                continue
            if self.last is None or not ("timed out" in str(argument) or isinstance(self.last, _DENIED)):
                self.last = argument


_failures = _Failures(logging.WARNING)
logging.getLogger("kafka.net.manager").addHandler(_failures)


@contextmanager
def translate_errors(address: Address) -> Iterator[None]:
    """Turns kafka-python's errors into TopicError or BrokerAway.

    Rejected certificates and connections closed before authentication are reported as such, but count as BrokerAway:
    restarting brokers look the same.  Fenced producers count as BrokerAway as well, since a coordinator that was
    unavailable fences too; a new writer detects whether another process has written.
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
    """The reason as text, including why there was no connection."""
    cause = _failures.last if isinstance(error, kafka.KafkaTimeoutError) else None
    if cause is None:
        return SILENT if "bootstrap" in str(error) else _text(error)
    if "disconnected" in str(cause):
        return f"it closes every connection; {_REQUIRED}"
    if isinstance(cause, (*_DENIED, kafka.InvalidReceiveError)):
        return f"{_text(cause)}; {_REQUIRED}"
    if "Handshake failed" in str(cause):
        return f"{_text(cause)}; see --kafka-config"
    return _text(cause)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


__all__ = ["BrokerAway", "TopicError", "translate_errors"]
