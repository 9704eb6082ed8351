"""A recording that is served and recorded again is the same recording."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from click.testing import CliRunner

from harness.cli import main
from harness.log import open_source
from harness.log.events import OBJECT_TYPES
from tests.record.cluster import Recorder
from tests.waiting import until

DEMO = "recordings/demo.jsonl"
CIDR = "10.128.0.0/9"


class Served:
    """Stands in for a cluster: has a kubeconfig and a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kubeconfig = folder, folder / "kubeconfig"
        command = [sys.executable, "-m", "harness", "serve", DEMO, "--start-paused", "--speed", "max"]
        self.process = subprocess.Popen(
            [*command, "--write-kubeconfig", str(self.kubeconfig)], stdout=subprocess.PIPE, text=True
        )
        self.url = next(word for word in self.process.stdout.readline().split() if word.startswith("http"))

    def step(self, count: int) -> None:
        urllib.request.urlopen(f"{self.url}/control/step?count={count}", data=b"", timeout=30).close()


def digest(source: Path | str) -> str:
    options = ["--kernel", "memory", "--min-sync-period", "0", "--cluster-cidr", CIDR, "--json", "-"]
    done = CliRunner().invoke(main, ["replay", str(source), *options])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["verified"] is True
    return result["digest"]


def objects(source) -> list[tuple]:
    with open_source(source) as recording:
        return [
            (e.type, e.resource, json.loads(bytes(e.object))["metadata"])
            for e in recording
            if e.type in OBJECT_TYPES and e.t
        ]


def test_serve_and_record_give_the_same_recording(tmp_path):
    """Events of one resource are in order by themselves; between resources, what comes first is."""
    out = tmp_path / "again.jsonl"
    served = Served(tmp_path)
    try:
        recorder = Recorder(served, "--out", out, "--flush-every", "20ms")
        recorder.until(lambda: out.exists() and out.read_bytes().count(b'"BOOKMARK"') == 3, "the initial lists")
        base = out.read_bytes().count(b"\n")
        with open_source(DEMO) as recording:
            later = [event for event in recording if event.t]
        expected = base
        for _, run in itertools.groupby(later, lambda event: event.resource):
            count = len(list(run))
            served.step(count)
            expected += count
            until(lambda lines=expected: out.read_bytes().count(b"\n") == lines, "the step recorded")
        assert recorder.stop() == 0
    finally:
        served.process.kill()
        served.process.communicate()
    assert objects(out) == objects(DEMO)
    assert digest(out) == digest(DEMO)
