"""The topic of a recording: created with settings that keep every event; other settings are rejected."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka.errors import AuthorizationError, TopicAlreadyExistsError

from harness.log.kafka.address import Address
from harness.log.kafka.errors import BrokerAway, TopicError, translate_errors

SETTINGS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""Compaction or expiry would lose events."""

CREATED_WITH = {**SETTINGS, "max.message.bytes": str(8 << 20), "compression.type": "producer"}
"""etcd accepts objects of up to 1.5 MiB; JSON and the envelope make them larger."""

TIMEOUT_MS = 10_000
DEFAULT_LARGEST = 1 << 20
"""Value of max.message.bytes if the broker does not report it."""


REACH_SECONDS = 2.5
"""The client itself retries for minutes, but an address without a listener is detected at once."""


def _require_reachable(address: Address) -> None:
    """Raise BrokerAway if no server accepts a connection; with a proxy, the client finds out itself."""
    if address.settings.get("proxy_url"):
        return
    reason: OSError | None = None
    for server in address.bootstrap:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS / len(address.bootstrap)).close()
            return
        except OSError as error:
            reason = error
    raise BrokerAway(address, f"the broker does not answer: {(reason and reason.strerror) or reason}")


@contextmanager
def _admin(address: Address) -> Iterator[KafkaAdminClient]:
    _require_reachable(address)
    client = KafkaAdminClient(**address.client, bootstrap_timeout_ms=TIMEOUT_MS)
    try:
        yield client
    finally:
        client.close()


def ensure_topic(address: Address) -> int:
    """Create the topic unless it exists; returns its max.message.bytes. TopicError if it cannot hold a recording."""
    with translate_errors(address), _admin(address) as client:
        wanted = {"num_partitions": 1, "replication_factor": -1, "configs": CREATED_WITH}
        if not exists(client, address.topic):
            try:
                client.create_topics({address.topic: wanted}, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                pass  # just created by another process: checked like any other
        return check_topic(client, address)


def require_topic(address: Address) -> None:
    """TopicError unless the topic exists and can be read completely."""
    with translate_errors(address), _admin(address) as client:
        if not exists(client, address.topic):
            known = ", ".join(sorted(name for name in client.list_topics() if not name.startswith("__"))) or "none"
            raise TopicError(address, f"there is no such topic; topics are: {known}")
        _check_whole(client, address)


def exists(client: KafkaAdminClient, topic: str) -> bool:
    """Whether the topic exists."""
    return topic in client.list_topics()


def _check_whole(client: KafkaAdminClient, address: Address) -> None:
    """TopicError if reading one partition would be incomplete, or events may have been compacted away."""
    count = len(client.describe_topics([address.topic])[0]["partitions"])
    if count != 1:
        raise TopicError(address, f"{count} partitions: a recording has 1, its events have one order")
    try:
        policy = _settings(client, address).get("cleanup.policy") or ""
    except AuthorizationError:
        return  # readers may lack permission to see settings
    if "compact" in policy:
        raise TopicError(address, f"cleanup.policy is {policy}: events of the recording may have been compacted away")


def _settings(client: KafkaAdminClient, address: Address) -> dict[str, str | None]:
    names = client.describe_configs([ConfigResource("TOPIC", address.topic)], config_filter="all")
    return {name: setting["value"] for name, setting in names["topic"][address.topic].items()}


def check_topic(client: KafkaAdminClient, address: Address) -> int:
    """Its max.message.bytes; TopicError naming each setting that would lose or reorder events."""
    found = client.describe_topics([address.topic])[0]
    wrong = []
    if len(found["partitions"]) != 1:
        wrong.append(f"{len(found['partitions'])} partitions, 1 is needed: order would be lost")
    settings = _settings(client, address)
    wrong += [
        f"{name} is {settings[name]}, {needed} is needed: events would be deleted"
        for name, needed in SETTINGS.items()
        if settings.get(name) not in (needed, None)
    ]
    if wrong:
        raise TopicError(
            address, f"the topic cannot hold a recording: {'; '.join(wrong)}; change it, or choose a new topic"
        )
    return int(settings.get("max.message.bytes") or DEFAULT_LARGEST)
