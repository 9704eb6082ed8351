"""A recording of nothing but endpoint changes at a steady rate: what recorder and readers are measured with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.events import FORMAT, RESOURCES, VERSION, Event, Header
from harness.recording import initial_events_end, write_recording

SLICES = 1_000


def write_steady(path: Path, changes: int, rate: int) -> int:
    """`changes` of `SLICES` EndpointSlices of ten endpoints, `rate` a second; returns the number of events."""
    header = Header(FORMAT, VERSION, RESOURCES[:3], "2026-01-01T00:00:00Z", {"name": "steady"})
    write_recording(path, header, _events(changes, rate))
    return SLICES + 3 + changes


def _events(changes: int, rate: int) -> Iterator[Event]:
    seq = 0
    for which in range(SLICES):
        seq += 1
        yield Event(seq, 0, "ADDED", "endpointslices", _slice(which, seq))
    for resource in RESOURCES[:3]:
        seq += 1
        yield initial_events_end(seq, 0, resource)
    for number in range(changes):
        seq += 1
        yield Event(seq, 1 + number * 10**9 // rate, "MODIFIED", "endpointslices", _slice(number % SLICES, seq))


def _slice(which: int, version: int) -> msgspec.Raw:
    name = f"service-{which:04}"
    endpoints = [
        {
            "addresses": [f"10.128.{which % 250}.{n}"],
            "conditions": {"ready": (version + n) % 10 > 0},
            "nodeName": f"n-{n}",
        }
        for n in range(1, 11)
    ]
    metadata = {
        "name": f"{name}-x7k2p",
        "namespace": "steady",
        "uid": f"u-{which}",
        "resourceVersion": str(version),
        "labels": {"kubernetes.io/service-name": name},
    }
    manifest = {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    return msgspec.Raw(msgspec.json.encode(manifest))
