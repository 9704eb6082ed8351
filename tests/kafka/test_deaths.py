"""A broker that is killed during writes, and killed recorders: nothing is lost or duplicated."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.record.cluster import Cluster, Recorder, events_of, folded
from tests.record.crashes import Crashes
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("kafka")


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as made:
        made.churn(seed=1, changes=60)
        yield made


@pytest.fixture
def record(cluster, broker, tmp_path):
    """record(topic, *options) -> Recorder."""
    broker.up()
    started: list[Recorder] = []

    def start(topic: str, *options) -> Recorder:
        started.append(Recorder(cluster, "--kafka", broker.bootstrap, "--topic", topic, *options))
        return started[-1]

    yield start
    for recorder in started:
        if recorder.process.poll() is None:
            recorder.process.kill()
        recorder.process.wait(60)
    broker.up()


def test_file_and_topic_agree_although_the_broker_is_killed(cluster, broker, record, tmp_path):
    """Recorder goes on, is stopped and is started again, all while the broker is away."""
    out, url = tmp_path / "a.jsonl", f"kafka://{broker.bootstrap}/dies"
    recorder = record("dies", "--out", out)
    recorder.until(lambda: recorder.acknowledged > 0, "acknowledged")
    broker.down(signal.SIGKILL)
    cluster.churn(seed=2, changes=300)
    recorder.until_like(cluster, out)
    recorder.until_said("the broker does not answer")
    assert recorder.stop() == 0 and "will be sent by the next harness record" in recorder.said
    assert "Traceback" not in recorder.said and "Exception ignored" not in recorder.said, recorder.said
    cluster.churn(seed=3, changes=50)
    recorder = record("dies", "--out", out)
    recorder.until_like(cluster, out)
    broker.up()
    recorder.until(lambda: recorder.acknowledged == len(events_of(out)), "all of it in the topic")
    broker.down(signal.SIGKILL)
    cluster.churn(seed=4, changes=50)
    broker.up()
    recorder.until_like(cluster, out)
    recorder.until(lambda: recorder.acknowledged == len(events_of(out)), "all of it, by the same recorder")
    assert recorder.stop() == 0, recorder.said
    assert events_of(url) == events_of(out) and folded(url) == cluster.truth()


def test_a_full_spool_stops_the_recorder_without_losses(cluster, broker, record):
    """The topic only: the spool outlives the recorder, and is gone when the topic has it."""
    url, spool = f"kafka://{broker.bootstrap}/spooled", cluster.folder / "state/kube-proxy-harness/spool/spooled"
    recorder = record("spooled", "--spool-limit", "40KiB")
    recorder.until(lambda: recorder.acknowledged > 0, "acknowledged")
    before = len(events_of(url))
    broker.down(signal.SIGKILL)
    cluster.churn(seed=2, changes=400)
    assert recorder.ended() == 1
    assert "more than --spool-limit" in recorder.said and "the next harness record first sends" in recorder.said
    assert "Traceback" not in recorder.said and "Exception ignored" not in recorder.said, recorder.said
    waiting = b"".join(path.read_bytes() for path in spool.iterdir()).count(b"\n") - 1
    assert waiting > before
    broker.up()
    recorder = record("spooled")
    recorder.until(lambda: folded(url) == cluster.truth(), "the truth in the topic")
    assert recorder.stop() == 0, recorder.said
    events = events_of(url)
    assert [seq for seq, *_ in events] == list(range(1, len(events) + 1)) and len(events) >= waiting
    assert [kind for _, _, kind, *_ in events].count("GAP") == 3
    assert list(spool.iterdir()) == []


def test_the_second_recorder_of_a_topic_takes_over(cluster, broker, record, tmp_path):
    first = record("contested", "--spool", tmp_path / "one")
    first.until(lambda: first.acknowledged > 0, "acknowledged")
    second = record("contested", "--spool", tmp_path / "two")
    second.until(lambda: second.acknowledged > first.acknowledged, "acknowledged")
    cluster.churn(seed=2, changes=30)
    assert first.ended() == 1 and "another recorder writes to this topic" in first.said
    url = f"kafka://{broker.bootstrap}/contested"
    second.until(lambda: folded(url) == cluster.truth(), "the truth")
    assert second.stop() == 0


def test_a_topic_of_another_recording_is_refused(cluster, broker, record, tmp_path):
    recorder = record("mine", "--out", tmp_path / "a.jsonl")
    recorder.until(lambda: recorder.acknowledged > 0, "acknowledged")
    assert recorder.stop() == 0
    recorder = record("mine", "--out", tmp_path / "b.jsonl")
    assert recorder.ended() == 2
    assert "lost" in recorder.said or "contains another recording" in recorder.said or "incomplete" in recorder.said
    assert not (tmp_path / "b.jsonl").exists()


@pytest.mark.parametrize("spool", [False, True], ids=["file and topic", "topic"])
def test_kill_9_at_random_moments(broker, tmp_path, spool):
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(10**6))
    print(f"CRASH_SEED={seed}")
    broker.up()
    kills = Crashes(tmp_path, broker, seed, spool).run(kills=3, broker_share=0.15)
    until(lambda: kills.total() >= 3, "kills")
