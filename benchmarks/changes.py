"""Changes of one endpoint each, of a recording that a proxier has read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.proxier import Proxier
from harness.log import open_source


def load(proxier: Proxier, path: Path) -> list[bytes]:
    """Pass every event to the proxier; returns up to 5,000 of its EndpointSlices."""
    slices = []
    with open_source(path) as recording:
        for event in recording:
            proxier.state.observe(event.type, event.resource, event.object)
            if event.resource == "endpointslices" and event.type == "ADDED" and len(slices) < 5_000:
                slices.append(bytes(event.object))
    return slices


def flips_of(slices: list[bytes], count: int) -> Iterator[bytes]:
    """Slices, each with the readiness of one endpoint inverted, spread over the Services."""
    programmed = [manifest for manifest in map(msgspec.json.decode, slices) if len(manifest["endpoints"] or ()) > 1]
    for turn in range(count):
        manifest = programmed[turn * 7919 % len(programmed)]
        conditions = manifest["endpoints"][turn % len(manifest["endpoints"])].setdefault("conditions", {})
        conditions["ready"] = not conditions.get("ready", True)
        yield msgspec.json.encode(manifest)
