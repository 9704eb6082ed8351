"""The topic of a recording: made with the settings that keep every event, refused with others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka.errors import TopicAlreadyExistsError

from harness.kafka.address import Address
from harness.kafka.errors import TopicError, explained

SETTINGS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""A flap that is compacted away, or a beginning that expires, is evidence lost."""

CREATED_WITH = {**SETTINGS, "max.message.bytes": str(8 << 20), "compression.type": "producer"}
"""etcd takes objects of up to 1.5 MiB; JSON and its envelope make them larger."""

TIMEOUT_MS = 10_000


@contextmanager
def _admin(address: Address) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(**address.client, bootstrap_timeout_ms=TIMEOUT_MS)
    try:
        yield client
    finally:
        client.close()


def ensure_topic(address: Address) -> None:
    """Make the topic unless it is there; TopicError when it cannot hold a recording."""
    with explained(address), _admin(address) as client:
        wanted = {"num_partitions": 1, "replication_factor": -1, "configs": CREATED_WITH}
        if not exists(client, address.topic):
            try:
                client.create_topics({address.topic: wanted}, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                pass  # made by someone else just now: it is checked like any other
        check_topic(client, address)


def require_topic(address: Address) -> None:
    """TopicError unless the topic is there."""
    with explained(address), _admin(address) as client:
        if not exists(client, address.topic):
            known = ", ".join(sorted(name for name in client.list_topics() if not name.startswith("__"))) or "none"
            raise TopicError(address, f"there is no such topic; topics are: {known}")


def exists(client: KafkaAdminClient, topic: str) -> bool:
    """Whether the cluster has the topic."""
    return topic in client.list_topics()


def check_topic(client: KafkaAdminClient, address: Address) -> None:
    """TopicError naming each setting that would lose or reorder events."""
    found = client.describe_topics([address.topic])[0]
    wrong = []
    if len(found["partitions"]) != 1:
        wrong.append(f"{len(found['partitions'])} partitions, 1 is needed: order would be lost")
    names = client.describe_configs([ConfigResource("TOPIC", address.topic)], config_filter="all")
    settings = {name: setting["value"] for name, setting in names["topic"][address.topic].items()}
    wrong += [
        f"{name} is {settings[name]}, {needed} is needed: events would be deleted"
        for name, needed in SETTINGS.items()
        if settings.get(name) not in (needed, None)
    ]
    if wrong:
        raise TopicError(
            address, f"the topic cannot hold a recording: {'; '.join(wrong)}; change it, or name a new one"
        )
