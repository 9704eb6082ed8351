"""Kills recorder and broker at random moments while the cluster changes, and checks what is left.

    python -m tests.record.crashes --kills 200 --seed 7

After every kill: what was acknowledged is there, what was there is there unchanged, nothing is there
twice.  At the end file and topic hold the same, and their fold is the cluster.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from harness.log import RecordingError, open_source
from harness.log.kafka.broker import Broker
from tests.record.cluster import Cluster, Recorder, events_of, folded
from tests.waiting import until

CHANGES_A_SECOND = 150


class Crashes:
    """One recording through many deaths. `spool`: to the topic only."""

    def __init__(self, folder: Path, broker: Broker, seed: int, spool: bool, suffix: str = ".jsonl") -> None:
        self.chance, self.broker, self.spool = random.Random(seed), broker, spool
        self.cluster = Cluster(folder)
        self.cluster.churn(seed, changes=60)
        self.out = folder / f"crash{suffix}"
        self.topic = f"crash-{seed}-{folder.name}"
        self.url = f"kafka://{broker.bootstrap}/{self.topic}"
        self.acknowledged, self.before = 0, []
        self.kills: Counter[str] = Counter()
        self.recorder: Recorder | None = None
        self._calm = threading.Event()

    def run(self, kills: int, broker_share: float) -> Counter[str]:
        """So many kills; AssertionError when anything is lost, doubled or wrong. Returns kills by what died."""
        churn = threading.Thread(target=self._churn, daemon=True)
        churn.start()
        try:
            while self.kills.total() < kills:
                self._one_death(broker_share)
            self._calm.set()
            churn.join(30)
            self._finish()
        finally:
            self._calm.set()
            if self.recorder and self.recorder.process.poll() is None:
                self.recorder.process.kill()
                self.recorder.ended()
            self.cluster.__exit__()
        return self.kills

    def _churn(self) -> None:
        chance, number = random.Random(1), 0
        while not self._calm.wait(1 / CHANGES_A_SECOND):
            self.cluster.change(chance, chance.randrange(30), number)
            number += 1

    def _start(self) -> None:
        target = ["--kafka", self.broker.bootstrap, "--topic", self.topic]
        self.recorder = Recorder(self.cluster, *target, *([] if self.spool else ["--out", self.out]))

    def _one_death(self, broker_share: float) -> None:
        if self.recorder is None or self.recorder.process.poll() is not None:
            self._start()
        if self.chance.random() < 0.8:
            # Most deaths strike a recorder at work; the others one that is just starting.
            self._until_it_works()
        time.sleep(self.chance.uniform(0, 0.8))
        if self.chance.random() < broker_share:
            self.broker.down(signal.SIGKILL)
            self.kills["broker"] += 1
            time.sleep(self.chance.uniform(0, 1))
            self.broker.up()
            if self.chance.random() < 0.5:
                # The recorder outlives the broker, and goes on with it.
                base = self.recorder.acknowledged
                until(
                    lambda: self.recorder.process.poll() is not None or self.recorder.acknowledged > base, "more", 120
                )
        if self.recorder.process.poll() is None:
            self.recorder.process.kill()
            self.kills["recorder"] += 1
        self._check()

    def _until_it_works(self, base: int | None = None) -> None:
        """Until more than `base` is acknowledged, by default more than ever before, or it ended by itself."""
        base = self.acknowledged if base is None else base
        until(lambda: self.recorder.process.poll() is not None or self.recorder.acknowledged > base, "work", 120)

    def _check(self) -> None:
        code = self.recorder.ended()
        assert "Traceback" not in self.recorder.said, self.recorder.said
        assert code in (-signal.SIGKILL, 1), self.recorder.said
        self.acknowledged = max(self.acknowledged, self.recorder.acknowledged)
        if self.spool:
            self._check_events(self._topic_events())
        elif self.out.exists():
            self._check_events(self._file_events())

    def _check_events(self, events: list) -> None:
        assert [seq for seq, *_ in events] == list(range(1, len(events) + 1)), "in order, none missing, none twice"
        assert len(events) >= self.acknowledged, "what was acknowledged is there"
        assert events[: len(self.before)] == self.before, "what was there is there unchanged"
        self.before = events

    def _file_events(self) -> list:
        """Whole lines and frames; a kill may have cut the last one in two."""
        events = []
        try:
            with open_source(self.out) as recording:
                for e in recording:
                    events.append((e.seq, e.t, e.type, e.resource, bytes(e.object)))
        except RecordingError as error:
            assert any(text in str(error) for text in ("cut off", "middle of a frame", "is empty")), error
        return events

    def _topic_events(self) -> list:
        try:
            with open_source(self.url) as recording:
                events = [(e.seq, e.t, e.type, e.resource, bytes(e.object)) for e in recording]
                assert recording.repeats == 0
        except RecordingError as error:
            assert "no such topic" in str(error) or "is empty" in str(error), error
            return []
        return events

    def _finish(self) -> None:
        self._start()
        self._until_it_works()
        self.recorder.until(lambda: folded(self.url) == self.cluster.truth(), "the topic holds the cluster")
        assert self.recorder.stop() == 0, self.recorder.said
        events = self._topic_events()
        self._check_events(events)
        if not self.spool:
            assert events_of(self.out) == events, "file and topic hold the same"
            assert folded(self.out) == self.cluster.truth()


def main() -> None:
    """Print what died how often, and how many events came through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--broker-share", type=float, default=0.2)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "kafka")
        broker.up()
        try:
            for part, (spool, suffix) in enumerate(((False, ".jsonl"), (True, ""), (False, ".jsonl.zst"))):
                home = Path(folder) / str(part)
                home.mkdir()
                crashes = Crashes(home, broker, options.seed + part, spool, suffix)
                total += crashes.run(-(-options.kills // 3), options.broker_share)
                what = "topic only" if spool else f"{suffix} and topic"
                print(f"{what}: {dict(crashes.kills)} killed, {len(crashes.before)} events, all there once", flush=True)
        finally:
            broker.down()
    print(f"{total.total()} kills ({dict(total)}): nothing lost, nothing doubled")


if __name__ == "__main__":
    main()
