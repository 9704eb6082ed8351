"""A recording of endpoint changes at a constant rate, used to measure recorder and readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.log import initial_events_end, write_recording
from harness.log.events import FORMAT, RESOURCES, VERSION, Event, Header

SLICES = 1_000


def write_steady(path: Path, changes: int, rate: int) -> int:
    """Write changes of `SLICES` EndpointSlices with ten endpoints, `rate` per second; returns the event count."""
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
