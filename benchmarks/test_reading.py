"""Reading a recording, relative to the JSON decoder alone on the same file."""

from __future__ import annotations

import time

import msgspec

from harness.log import open_source


def test_reading_a_recording(benchmark, recording_of, figure):
    """Events per second, and the ratio to decoding each line into plain objects."""
    path = recording_of(10_000, 10, 5_000)
    counts = []
    benchmark.pedantic(lambda: counts.append(_read(path)), rounds=5, warmup_rounds=1)
    bare = min(_decode_only(path) for _ in range(5))
    ours = benchmark.stats.stats.min
    figure("reading a recording", f"{counts[0] / ours:,.0f} events/s")
    figure("  speed against the decoder alone", f"{bare / ours:.2f} x", ">= 0.5 x", f"decoder {bare:.3f} s")


def _read(path) -> int:
    with open_source(path) as recording:
        return sum(1 for _ in recording)


def _decode_only(path) -> float:
    decode = msgspec.json.Decoder().decode
    started = time.perf_counter()
    with open(path, "rb") as lines:
        for line in lines:
            decode(line)
    return time.perf_counter() - started
