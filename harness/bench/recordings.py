"""The recording of a row: a synthetic cluster, and its changes, far enough apart to form separate batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.bench.churn import Collector, batches
from harness.bench.rows import BenchRow
from harness.log import write_recording
from harness.log.events import Event
from harness.log.synth import SynthOptions, generate

APART = 10 * 10**9
"""Nanoseconds between two batches: more than any minSyncPeriod."""


def recording_of(row: BenchRow, folder: Path) -> Path:
    """The file, written unless it exists."""
    path = folder / f"{row.cluster}.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        header, events = generate(SynthOptions(row.services, row.endpoints, 0, nodes=max(10, row.services // 20)))
        partial = path.with_suffix(".partial")
        write_recording(partial, header, _events(events, row.churn))
        partial.rename(path)
    return path


def _events(initial: Iterator[Event], churn: str) -> Iterator[Event]:
    collector, seq = Collector(), 0
    for event in collector.watch(initial):
        seq = event.seq
        yield event
    for number, batch in enumerate(batches(churn, collector.cluster()), start=1):
        for kind, resource, manifest in batch:
            seq += 1
            yield Event(seq, number * APART, kind, resource, msgspec.Raw(msgspec.json.encode(manifest)))
