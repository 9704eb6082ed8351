"""A broker that demands TLS and a password: clients with both get in, others get an error with the reason."""

from __future__ import annotations

import logging
import os
import subprocess

import pytest
from click.testing import CliRunner
from kafka.errors import InvalidReceiveError, KafkaConnectionError, KafkaTimeoutError, SaslAuthenticationFailedError

from harness.cli import main
from harness.log.kafka.address import Address
from harness.log.kafka.broker import Broker, BrokerError, free_port
from harness.log.kafka.errors import BrokerAway, translate_errors

pytestmark = pytest.mark.xdist_group("kafka")

DEMO = "recordings/demo.jsonl"
EXTRA = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},SASL_SSL://127.0.0.1:{secure}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},SASL_SSL://127.0.0.1:{secure}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
    username="admin" password="a" user_harness="s3cret";
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
"""
CLIENT = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "PLAIN",
    "sasl.jaas.config": 'org.apache... required username="harness" password="s3cret";',
}


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """(HOST:PORT of the listener that demands both, file of the certificate)."""
    folder = tmp_path_factory.mktemp("secure")
    key, certificate = folder / "key.pem", folder / "ca.pem"
    names = ["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"]
    request = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-keyout", key, "-out", certificate]
    subprocess.run([*request, *names], check=True, capture_output=True, timeout=60)
    (folder / "keystore.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    port = free_port()
    made = Broker(folder / "kafka", EXTRA.format(secure=port, keystore=folder / "keystore.pem"))
    try:
        made.up()
    except BrokerError as error:
        if os.environ.get("CI"):
            pytest.fail(f"Kafka tests never skip on CI: {error}")
        pytest.skip(f"NO KAFKA TESTS: {error}")
    yield f"127.0.0.1:{port}", certificate
    made.down()


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({}, 0, "300 events copied"),
        ({"ssl.ca.location": "", "ssl.check.hostname": "false"}, 1, "certificate verify failed"),
        (
            {"security.protocol": "SASL_PLAINTEXT"},
            1,
            "does it require TLS or other credentials? see --kafka-config",
        ),
        (
            {"sasl.jaas.config": 'username="harness" password="wrong"'},
            1,
            "other credentials? see --kafka-config",
        ),
    ],
    ids=["both", "unknown certificate", "no TLS", "wrong password"],
)
def test_tls_and_sasl(secure, tmp_path, monkeypatch, change, code, text):
    monkeypatch.setattr("harness.log.kafka.topic.TIMEOUT_MS", 3_000)
    address, ca = secure
    settings = {**CLIENT, "ssl.ca.location": ca, **change}
    file = tmp_path / "client.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items() if value))
    done = CliRunner().invoke(main, ["copy", DEMO, f"kafka://{address}/demo?config={file}"])
    assert done.exit_code == code and text in done.output


def test_the_attempt_that_the_deadline_cuts_off_does_not_hide_the_reason():
    log = logging.getLogger("kafka.net.manager")
    with pytest.raises(BrokerAway, match="certificate verify failed: self-signed"):
        with translate_errors(Address(("127.0.0.1:1",), "topic")):
            log.error("Connection failed: %s", KafkaConnectionError("certificate verify failed: self-signed"))
            log.error("Connection failed: %s", KafkaConnectionError("Connection timed out"))
            raise KafkaTimeoutError("Unable to bootstrap")


@pytest.mark.parametrize(
    "errors",
    [
        [SaslAuthenticationFailedError("Invalid username"), KafkaConnectionError("socket disconnected")],
        [KafkaConnectionError("socket disconnected"), InvalidReceiveError("Invalid frame length: 352518912")],
        [KafkaConnectionError("socket disconnected")],
    ],
    ids=["credentials", "a TLS alert", "closed"],
)
def test_a_broker_that_requires_something_else_is_reported_as_such_whichever_attempt_showed_it(errors):
    log = logging.getLogger("kafka.net.manager")
    with pytest.raises(BrokerAway, match="does it require TLS or other credentials"):
        with translate_errors(Address(("127.0.0.1:1",), "topic")):
            for error in errors:
                log.error("Connection failed: %s", error)
            raise KafkaTimeoutError("Unable to bootstrap")
