"""The lab's one event log: every change of the API and every fault, as a recording that replays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from harness.events import FORMAT, RESOURCES, VERSION, Event, Header
from harness.lab.topology import POD_NETWORK, SERVICE_NETWORK, LabOptions
from harness.recording import initial_events_end
from harness.serve.store import Change

_encode = msgspec.json.Encoder().encode


class EventLog:
    """Writes events to `write(header or event as bytes)` in order; `clock` gives nanoseconds."""

    def __init__(self, write: Callable[[bytes], None], options: LabOptions, start: str, clock=time.monotonic_ns):
        self._write, self._clock = write, clock
        self.began = clock()
        self._seq = 0
        self._lock = threading.Lock()
        header = Header(
            FORMAT, VERSION, RESOURCES, start,
            cluster={"name": "lab", "clusterCIDR": POD_NETWORK, "serviceCIDRs": [SERVICE_NETWORK]},
            generator={"name": "lab", "seed": options.seed, "options": msgspec.to_builtins(options)},
        )  # fmt: skip
        write(_encode(header) + b"\n")

    @property
    def seconds(self) -> float:
        """Now, on the log's clock."""
        return (self._clock() - self.began) / 1e9

    def initial_list_ended(self) -> None:
        """Mark the end of what was there from the beginning."""
        for resource in RESOURCES:
            self._append(lambda seq, t, resource=resource: initial_events_end(seq, t, resource))

    def change(self, change: Change) -> None:
        """A subscriber of the store."""
        if change.resource.partition(".")[0] in RESOURCES:
            self._add(change.type, change.resource.partition(".")[0], change.object.manifest())

    def fault(self, what: dict[str, Any]) -> float:
        """Something injected, healed or found out; the log's time of it in seconds."""
        return self._add("FAULT", "nodes" if what.get("node") else "pods", what)

    def _add(self, kind: str, resource: str, manifest: dict[str, Any]) -> float:
        raw = msgspec.Raw(_encode(manifest))
        return self._append(lambda seq, t: Event(seq, t, kind, resource, raw)).t / 1e9

    def _append(self, make: Callable[[int, int], Event]) -> Event:
        with self._lock:
            self._seq += 1
            event = make(self._seq, self._clock() - self.began)
            self._write(_encode(event) + b"\n")
            return event
