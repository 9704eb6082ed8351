"""A minute of 5,000 watch events per second, recorded to a file and a topic at once."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
import pytest

from benchmarks.steady import SLICES, write_steady
from harness.log import open_source

RATE, SECONDS = 5_000, 60
PATIENCE_SECONDS = 300


@pytest.mark.timeout(900)
def test_recorder_keeps_up(benchmark, tmp_path, broker, figure):
    """Nothing lost, and no more memory in the second half than in the first."""
    source, out = tmp_path / "steady.jsonl", tmp_path / "out.jsonl"
    expected = write_steady(source, RATE * SECONDS, RATE)
    kubeconfig = tmp_path / "kubeconfig"
    serve = _harness("serve", source, "--start-paused", "--history", "200000", "--write-kubeconfig", kubeconfig)
    url = next(word for word in serve.stdout.readline().split() if word.startswith("http"))
    target = ["--out", out, "--kafka", broker.bootstrap, "--topic", "steady"]
    recorder = _harness("record", "--kubeconfig", kubeconfig, *target, "--status-every", "1s")
    try:
        _until(lambda: out.exists() and out.read_bytes().count(b'"BOOKMARK"') == 3)
        process = psutil.Process(recorder.pid)
        began, cpu = time.monotonic(), sum(process.cpu_times()[:2])
        urllib.request.urlopen(f"{url}/control/resume", data=b"").close()
        memory: list[int] = []
        topic = f"kafka://{broker.bootstrap}/steady"

        def run() -> None:
            _until(lambda: memory.append(process.memory_info().rss) or _lines(out, expected))

        benchmark.pedantic(run, rounds=1)
        took, cpu = time.monotonic() - began, sum(process.cpu_times()[:2]) - cpu
        recorder.terminate()
        assert recorder.wait(60) == 0
        with open_source(out) as file, open_source(topic) as copied:
            seqs = [event.seq for event in copied]
            kinds = Counter(event.type for event in file)
        assert seqs == list(range(1, len(seqs) + 1)) and len(seqs) == kinds.total()
        assert (kinds["ADDED"], kinds["MODIFIED"], kinds["GAP"]) == (SLICES, RATE * SECONDS, 0), "none lost"
        late = took - SECONDS
        figure("recorded to file and topic, a minute", f"last event {late:.1f} s after it came", f"{RATE:,} events/s")
        figure("  recorder's CPU", f"{cpu / took:.0%} of one core")
        middle, late = max(memory[: len(memory) // 2]), max(memory[len(memory) // 2 :])
        figure("  memory, second half against first", f"{late / middle:.2f} x ({late >> 20} MiB)", "flat: 1.0 x")
    finally:
        for child in (recorder, serve):
            child.kill()
            child.wait()


def _harness(*arguments) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "harness", *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def _lines(path: Path, expected: int) -> bool:
    """Whether the recording's last event is the last one of the source, read from the end of the file."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return f'"resourceVersion":"{expected}"'.encode() in file.read()


def _until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)
