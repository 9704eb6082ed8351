"""Names and settings as users write them; each mistake is named."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from harness.log import RecordingError
from harness.log.kafka.address import ENVIRONMENT, SETTINGS, parse_address, settings_from


def test_a_complete_address_is_parsed(tmp_path):
    (tmp_path / "c.properties").write_text("security.protocol=SASL_SSL\n")
    address = parse_address(f"kafka://a:9092,[::1]:9093/prod.eu?from=12&until=5m&config={tmp_path}/c.properties")
    assert address.bootstrap == ("a:9092", "[::1]:9093") and address.topic == "prod.eu"
    assert (address.start, address.until) == (("seq", 12), ("t", 300 * 10**9))
    assert address.client["bootstrap_servers"] == ["a:9092", "[::1]:9093"]
    assert address.settings == {"security_protocol": "SASL_SSL"}
    assert str(address) == "kafka://a:9092,[::1]:9093/prod.eu"


BAD = {
    "kafka://": "kafka://HOST:PORT/TOPIC is needed",
    "kafka://h:1": "kafka://HOST:PORT/TOPIC is needed",
    "kafka://h:1/a/b": "topic 'a/b'",
    "kafka://h:1/t?form=3": "unknown: form",
    "kafka://h:1/t?from=soon": "'soon' is not a duration",
    "kafka://h:x/t": "'h:x' is not HOST:PORT",
    "kafka://h:1/t?config=missing.properties": "missing.properties: cannot be read",
}


@pytest.mark.parametrize("url", BAD)
def test_a_bad_address_is_named(url):
    with pytest.raises(RecordingError) as raised:
        parse_address(url)
    assert BAD[url] in str(raised.value)


def test_settings_have_the_names_of_every_client(tmp_path, monkeypatch):
    file = tmp_path / "client.properties"
    file.write_text(
        "# Kafka's own\n! and so\n\nsecurity.protocol = SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n"
        '  username="me" password="a=b";\n'
        "ssl.ca.location=/ca.pem\nssl.endpoint.identification.algorithm=\nrequest.timeout.ms=5000\n"
    )
    expected = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": "a=b",
        "ssl_cafile": "/ca.pem",
        "ssl_check_hostname": False,
        "request_timeout_ms": 5000,
    }
    assert settings_from(str(file)) == expected
    monkeypatch.setenv(ENVIRONMENT, str(file))
    assert settings_from(None, ("sasl_plain_username=you",)) == expected | {"sasl_plain_username": "you"}


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ("sasl.mechanisn=PLAIN", "did you mean sasl.mechanism?"),
        ("acks=0", "unknown setting 'acks'"),
        ("enable.idempotence=false", "unknown setting"),
        ("nonsense", "is not KEY=VALUE"),
    ],
)
def test_unknown_settings_are_named(pair, text):
    with pytest.raises(ValueError, match="--kafka-config") as raised:
        settings_from(None, (pair,))
    assert text in str(raised.value)


@pytest.mark.parametrize("client", [KafkaAdminClient, KafkaConsumer, KafkaProducer])
def test_every_setting_is_one_that_every_client_takes(client):
    assert [name for name in SETTINGS if name not in client.DEFAULT_CONFIG] == []
