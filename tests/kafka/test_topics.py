"""Recordings in a real broker's topics: they survive the round trip, and unsafe topics are rejected."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaProducer

from harness.apiserver.journal import Journal
from harness.apiserver.live import LiveStore
from harness.cli import main
from harness.log import RecordingError, open_source
from harness.log.copying import copy
from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.follow import Follow
from harness.log.kafka.address import parse_address
from harness.log.kafka.errors import BrokerAway, TopicError
from harness.log.kafka.sink import TopicWriter
from harness.log.lines import event_line, header_line
from tests.explore.conftest import serving
from tests.explore.test_page import get
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("kafka")

DEMO = "recordings/demo.jsonl"
HEADER = Header(FORMAT, VERSION, ("nodes",), "2026-01-01T00:00:00Z")
_numbers = itertools.count()


def event(seq: int, size: int = 10) -> Event:
    raw = msgspec.json.encode({"metadata": {"name": "n" * size, "resourceVersion": str(seq)}})
    return Event(seq, seq, "ADDED" if seq == 1 else "MODIFIED", "nodes", msgspec.Raw(raw))


def seqs(url: str) -> list[int]:
    with open_source(url) as recording:
        return [found.seq for found in recording]


@pytest.fixture
def url(broker) -> str:
    """A topic that is not there yet."""
    return f"kafka://{broker.bootstrap}/t{next(_numbers)}"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def replayed(*arguments: str) -> dict:
    return json.loads(run("replay", *arguments, "--kernel", "memory", "--no-verify", "--json", "-"))


def test_a_topic_replays_like_its_file(url):
    run("copy", DEMO, url)
    file, topic = replayed(DEMO), replayed(url)
    assert topic["digest"] == file["digest"]
    assert topic["recording"]["sha256"] == file["recording"]["sha256"]
    part = replayed(DEMO, "--from", "60s", "--until", "200s")
    assert replayed(f"{url}?from=60s&until=200s")["digest"] == part["digest"] != file["digest"]


def test_the_brokers_native_library_is_in_its_own_folder(broker, url):
    """/tmp may forbid to execute, and would keep those of killed brokers."""
    run("copy", DEMO, url)
    mapped = Path(f"/proc/{broker.pid}/maps").read_text()
    assert f"{broker.home}/libraries/libzstd" in mapped


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst"])
def test_a_recording_survives_the_round_trip_through_a_topic(url, tmp_path, suffix):
    back = tmp_path / f"back{suffix}"
    run("copy", DEMO, url)
    run("copy", url, str(back))
    with open_source(DEMO) as one, open_source(back) as other:
        assert one.header == other.header
        assert [event_line(found) for found in one] == [event_line(found) for found in other]
    assert "valid: 300 events" in run("validate", url)
    assert json.loads(run("inspect", url, "--json"))["events"] == 300


def test_a_copy_is_continued_without_duplicates(url):
    assert copy(f"{DEMO}", url, None, lambda n: None) == 300
    assert copy(DEMO, url, None, lambda n: None) == 0
    other = f"{url}-half"
    assert copy(f"{url}?until=100", other, None, lambda n: None) == 100
    assert copy(DEMO, other, None, lambda n: None) == 200
    assert seqs(other) == list(range(1, 301))


def test_keys_headers_and_settings_are_as_documented(url, broker):
    from kafka import TopicPartition
    from kafka.admin import ConfigResource

    from harness.log.kafka.source import open_consumer

    run("copy", DEMO, url)
    address = parse_address(url)
    consumer = open_consumer(address)
    try:
        records = consumer.poll(timeout_ms=20_000)[TopicPartition(address.topic, 0)]
    finally:
        consumer.close()
    lines = open(DEMO, "rb").read().splitlines()
    assert [record.value for record in records] == lines[: len(records)]
    assert records[0].key == b"header"
    for record, line in zip(records[1:], lines[1:], strict=False):
        parsed = json.loads(line)
        metadata = parsed["object"]["metadata"]
        name = f"{parsed['resource']}/{metadata.get('namespace', '')}/{metadata.get('name', '')}"
        assert record.key == name.encode()
        headers = dict(record.headers)
        assert headers["schema"] == b"kube-proxy-harness/recording/1"
        assert headers["resourceVersion"].decode() == metadata.get("resourceVersion", "")
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        found = admin.describe_configs([ConfigResource("TOPIC", address.topic)], config_filter="all")
    finally:
        admin.close()
    settings = found["topic"][address.topic]
    assert settings["cleanup.policy"]["value"] == "delete" and settings["retention.ms"]["value"] == "-1"


@pytest.mark.parametrize(
    ("partitions", "configs", "text"),
    [
        (2, {"retention.ms": "-1"}, "2 partitions, 1 is needed"),
        (1, {"retention.ms": "-1", "cleanup.policy": "compact"}, "cleanup.policy is compact, delete is needed"),
        (1, {"retention.ms": "-1", "cleanup.policy": "compact,delete"}, "cleanup.policy is compact,delete"),
        (1, {"retention.ms": "86400000"}, "retention.ms is 86400000, -1 is needed"),
        (1, {"retention.ms": "-1", "retention.bytes": "1000"}, "retention.bytes is 1000, -1 is needed"),
    ],
)
def test_a_topic_that_would_lose_events_is_refused(url, broker, partitions, configs, text):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    topic = parse_address(url).topic
    try:
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        admin.create_topics({topic: wanted}, wait_for_metadata=True)
    finally:
        admin.close()
    done = CliRunner().invoke(main, ["copy", DEMO, url])
    assert done.exit_code == 2 and text in done.output
    if not text.startswith("retention"):
        done = CliRunner().invoke(main, ["inspect", url])
        assert done.exit_code == 2 and text.partition(",")[0] in done.output


def test_an_event_too_large_for_the_topic_names_the_setting(url, broker):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    configs = {"retention.ms": "-1", "max.message.bytes": "600"}
    try:
        topics = {parse_address(url).topic: {"num_partitions": 1, "replication_factor": 1, "configs": configs}}
        admin.create_topics(topics, wait_for_metadata=True)
    finally:
        admin.close()
    command = [sys.executable, "-m", "harness", "copy", DEMO, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "raise max.message.bytes" in done.stderr, done.stderr


def test_a_topic_that_is_no_recording_is_reported(url, broker, tmp_path):
    with pytest.raises(RecordingError, match="there is no such topic"):
        open_source(url)
    run("copy", DEMO, url)
    with pytest.raises(TopicError, match="contains another recording"):
        TopicWriter(parse_address(url), HEADER, b"me")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send(parse_address(url).topic, b"hello").get(20)
    producer.close()
    with pytest.raises(RecordingError, match="offset 303: not an event"):
        seqs(url)


def test_events_delivered_twice_are_read_once(url, broker):
    """As by a mirror that copies at least once."""
    writer = TopicWriter(parse_address(url), HEADER, b"me")
    writer.write([event(seq) for seq in range(1, 6)])
    writer.close()
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for seq in (3, 4, 5, 6, 6, 7):
        producer.send(parse_address(url).topic, event_line(event(seq))[:-1]).get(20)
    producer.close()
    with open_source(url) as recording:
        assert [found.seq for found in recording] == list(range(1, 8))
        assert recording.repeats == 4


def test_a_page_follows_a_topic(url):
    """`harness explore --follow` shows what is written to it meanwhile."""
    writer = TopicWriter(parse_address(url), HEADER, b"me")
    writer.write([event(1), event(2)])
    with serving(url, "--follow") as page:
        until(lambda: get(page, "api/overview")["events"] == 2, "what is there is shown")
        writer.write([event(3)])
        until(lambda: get(page, "api/grown?events=2")["events"] == 3, "what comes is shown")
        assert get(page, "api/moment?at=3")["event"]["seq"] == 3
    writer.close()


def test_the_last_producer_fences_the_others(url):
    """A dead recorder's batches that are still on their way must not arrive after its successor's."""
    first = TopicWriter(parse_address(url), HEADER, b"one")
    first.write([event(1), event(2)])
    second = TopicWriter(parse_address(url), HEADER, b"two")
    assert (second.seq, second.last_writer) == (2, b"one")
    with pytest.raises(BrokerAway):
        first.write([event(3)])
    second.write([event(3)])
    first.close(0)
    second.close()
    assert seqs(url) == [1, 2, 3]


def test_an_open_transaction_of_a_killed_producer_is_never_read(url):
    first = TopicWriter(parse_address(url), HEADER, b"one")
    first.write([event(1)])
    first._producer.begin_transaction()
    first._producer.send(parse_address(url).topic, event_line(event(2))[:-1], partition=0).get(20)
    assert seqs(url) == [1]
    second = TopicWriter(parse_address(url), HEADER, b"two")
    assert second.seq == 1
    second.write([event(2, size=11)])
    second.close()
    first.close(0)
    with open_source(url) as recording:
        assert [bytes(found.object) for found in recording][1] == bytes(event(2, size=11).object)


def test_objects_of_etcds_maximum_size(url):
    writer = TopicWriter(parse_address(url), HEADER, b"me")
    writer.write([event(1, size=1_500_000), event(2, size=3_000_000)])
    writer.close()
    with open_source(url) as recording:
        assert [len(bytes(found.object)) > 1_500_000 for found in recording] == [True, True]


def test_a_live_topic_is_followed(url, tmp_path):
    """Replayed while it grows, it has the digest of the whole."""
    with open_source(DEMO) as recording:
        header, events = recording.header, list(recording)
    writer = TopicWriter(parse_address(url), header, b"me")
    writer.write(events[:150])
    command = [sys.executable, "-m", "harness", "replay", url, "--follow", "--until", str(events[-1].seq - 1)]
    child = subprocess.Popen(
        [*command, "--kernel", "memory", "--no-verify", "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    for start in range(150, len(events), 50):
        writer.write(events[start : start + 50])
    writer.close()
    out, _ = child.communicate(timeout=60)
    assert json.loads(out)["digest"] == replayed(DEMO, "--until", str(events[-1].seq - 1))["digest"]


def test_a_follower_ends_cleanly(url, tmp_path):
    run("copy", DEMO, url)
    mirror = tmp_path / "mirror.jsonl"
    child = subprocess.Popen([sys.executable, "-m", "harness", "copy", url, str(mirror), "--follow"])
    try:
        until(lambda: mirror.exists() and mirror.read_bytes().count(b"\n") == 301, "a whole mirror")
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    finally:
        child.kill()
    assert mirror.read_bytes() == open(DEMO, "rb").read()


def test_a_growing_file_is_followed_line_by_line(tmp_path):
    """No broker: whatever pieces a file grows by, events come whole."""
    path = tmp_path / "a.jsonl"
    text = header_line(HEADER) + b"".join(event_line(event(seq)) for seq in range(1, 40))
    steps = iter(range(0, len(text) + 17, 17))

    def wait() -> bool:
        upto = next(steps, None)
        if upto is None:
            return False
        path.write_bytes(text[:upto])
        return True

    path.write_bytes(text[:40])
    with open_source(path, Follow(wait)) as recording:
        assert [found.seq for found in recording] == list(range(1, 40))


@pytest.mark.parametrize(
    ("command", "code"), [(["inspect"], 2), (["copy", "--follow", DEMO], 1)], ids=["inspect", "copy"]
)
def test_a_missing_broker_is_reported_soon(command, code):
    """Before the client's own patience, which is 10 s, begins."""
    done = CliRunner().invoke(main, [*command, "kafka://127.0.0.1:1/nothing"])
    assert done.exit_code == code and "the broker does not answer" in done.output


def test_a_growing_log_is_shipped_although_the_broker_is_killed(url, broker, tmp_path):
    """The file is the spool: what happened while the broker was away arrives once it is back, and only once."""
    path, store = tmp_path / "run.jsonl", LiveStore()
    with Journal(path, store, {"name": "lab"}) as log:
        command = [sys.executable, "-m", "harness", "copy", str(path), url, "--follow"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            store.apply("nodes", {"metadata": {"name": "before"}})
            until(lambda: shipped(url) == path.read_bytes(), "what was there before")
            broker.down(signal.SIGKILL)
            for number in range(200):
                store.apply("nodes", {"metadata": {"name": f"node-{number}"}})
            log.mark("FAULT", "nodes", {"fault": "broker-down"})
            broker.up()
            store.apply("nodes", {"metadata": {"name": "after"}})
            until(lambda: shipped(url) == path.read_bytes(), "all of it")
            child.send_signal(signal.SIGTERM)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
            broker.up()
    assert child.returncode == 0 and "Traceback" not in err, err
    with open_source(url) as recording:
        assert len(list(recording)) == 207 and recording.repeats == 0
    assert "207 events copied" in out


def shipped(url: str) -> bytes:
    """The topic as a file; nothing while there is no such topic."""
    try:
        with open_source(url) as recording:
            return header_line(recording.header) + b"".join(map(event_line, recording))
    except RecordingError:
        return b""
