"""A million events through a real topic, written and read back, relative to the source file."""

from __future__ import annotations

import time

import pytest

from benchmarks.steady import write_steady
from harness.log import open_source
from harness.log.copying import copy

EVENTS = 1_000_000


@pytest.mark.timeout(1800)
def test_a_million_events(benchmark, tmp_path, broker, figure):
    """Copied to a topic and read back: the same bytes. `engine off`: events are only decoded and checked."""
    source, topic = tmp_path / "million.jsonl", f"kafka://{broker.bootstrap}/million"
    expected = write_steady(source, EVENTS, 5_000)
    began = time.perf_counter()
    assert copy(str(source), topic, None, lambda count: None) == expected
    written = expected / (time.perf_counter() - began)
    results: list[tuple[int, str]] = []
    cpu = time.process_time()
    benchmark.pedantic(lambda: results.append(_read(topic)), rounds=1)
    cpu = (time.process_time() - cpu) / expected
    began = time.perf_counter()
    assert results == [_read(str(source))] and results[0][0] == expected
    file = expected / (time.perf_counter() - began)
    read = expected / benchmark.stats.stats.min
    figure("a million events into a topic", f"{written:,.0f} events/s")
    figure(
        "  read from the topic, engine off", f"{read:,.0f} events/s", ">= 50,000 events/s", f"file {file:,.0f} events/s"
    )
    figure("  CPU a core could read", f"{1 / cpu:,.0f} events/s")


def _read(source: str) -> tuple[int, str]:
    with open_source(source) as recording:
        return sum(1 for _ in recording), recording.sha256
