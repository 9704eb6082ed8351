"""A stopped broker process: connections are accepted, nothing is answered. No writer waits without a limit."""

from __future__ import annotations

import os
import signal
import time

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.log import open_source
from harness.log.kafka import sink, topic
from harness.log.kafka.address import parse_address
from harness.log.kafka.trouble import BrokerAway
from tests.record.cluster import Cluster, Recorder

pytestmark = pytest.mark.xdist_group("kafka")
DEMO = "recordings/demo.jsonl"
SOON = 30.0
"""Time limit on a busy machine for operations that give up after 2 to 4 s."""


@pytest.fixture
def freeze(broker):
    """Stops the broker's process when called; it goes on after the test."""
    broker.up()
    pid = broker.pid
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


@pytest.fixture
def opened(broker, freeze):
    """A writer of a topic that holds the first hundred events, and the others."""
    with open_source(DEMO) as recording:
        header, events = recording.header, list(recording)
    writer = sink.TopicWriter(
        parse_address(f"kafka://{broker.bootstrap}/frozen-{time.time_ns()}"), header, b"me", 4_000
    )
    writer.write(events[:100])
    yield writer, events[100:]
    writer.close(0)


def test_a_copy_to_an_unresponsive_broker_is_an_error(broker, freeze, monkeypatch):
    monkeypatch.setattr(topic, "TIMEOUT_MS", 2_000)
    freeze()
    began = time.monotonic()
    done = CliRunner().invoke(main, ["copy", DEMO, f"kafka://{broker.bootstrap}/frozen"])
    assert done.exit_code == 1 and time.monotonic() - began < SOON
    assert "the broker does not answer: it accepts connections but does not answer requests" in done.stderr


def test_an_unanswered_transaction_times_out(freeze, opened):
    writer, events = opened
    freeze()
    began = time.monotonic()
    with pytest.raises(BrokerAway, match="the broker does not answer"):
        writer.write(events)
    assert time.monotonic() - began < SOON


def test_looking_for_the_end_of_a_topic_times_out(broker, freeze, opened, monkeypatch):
    writer, _ = opened
    read = sink._records

    def frozen_meanwhile(*arguments):
        freeze()
        return read(*arguments)

    monkeypatch.setattr(sink, "_records", frozen_meanwhile)
    began = time.monotonic()
    with pytest.raises(BrokerAway, match="no answer for 2 s"):
        sink._ends_of(writer.address, 2.0)
    assert time.monotonic() - began < SOON


def test_a_recorder_continues_and_ends_on_request(broker, freeze, tmp_path):
    with Cluster(tmp_path) as cluster:
        cluster.churn(seed=1, changes=20)
        out = tmp_path / "a.jsonl"
        recorder = Recorder(cluster, "--kafka", broker.bootstrap, "--topic", f"frozen-{time.time_ns()}", "--out", out)
        try:
            recorder.until(lambda: recorder.acknowledged > 0, "acknowledged")
            freeze()
            cluster.churn(seed=2, changes=50)
            recorder.until_like(cluster, out)
            assert recorder.stop() == 0 and "will be sent by the next harness record" in recorder.said, recorder.said
        finally:
            if recorder.process.poll() is None:
                recorder.process.kill()
            recorder.process.wait(60)
