"""Live figures of a followed replay: those of the last minute, and metrics for Prometheus."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from harness.log.events import Event
from harness.wording import plural

WINDOW_SECONDS = 60.0
MOST_SAMPLES = 100_000
BUCKETS = tuple(step * 10.0**power for power in range(-5, 2) for step in (1, 2, 5))


class ChangeSample(NamedTuple):
    """One change with an effect on the kernel; seconds, as in a replay's result."""

    work: float
    queue: float
    convergence: float


class Rolling:
    """Samples of the last WINDOW_SECONDS; safe for one writer and one reader thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, ChangeSample]] = deque(maxlen=MOST_SAMPLES)

    def add(self, sample: ChangeSample) -> None:
        """Count one change."""
        with self._lock:
            self._samples.append((self._clock(), sample))

    def line(self) -> str:
        """`last 60 s: 14 changes, compute + apply p50 0.31 ms, p99 2.40 ms, queue wait p99 0.00 ms`."""
        oldest = self._clock() - WINDOW_SECONDS
        with self._lock:
            while self._samples and self._samples[0][0] < oldest:
                self._samples.popleft()
            samples = [sample for _, sample in self._samples]
        line = f"last {WINDOW_SECONDS:.0f} s: {plural(len(samples), 'change')}"
        if not samples:
            return line
        work, queue = sorted(s.work for s in samples), sorted(s.queue for s in samples)
        converged = sorted(s.convergence for s in samples)
        return (
            f"{line}, compute + apply p50 {_ms(work, 50)}, p99 {_ms(work, 99)}, queue wait p99 {_ms(queue, 99)},"
            f" convergence p99 {_ms(converged, 99)}"
        )


def _ms(ordered: Sequence[float], percent: float) -> str:
    """The nearest rank, as in the result."""
    return f"{ordered[math.ceil(round(percent * len(ordered) / 100, 6)) - 1] * 1e3:,.2f} ms"


class Exporter:
    """The same for Prometheus, on loopback; `port` 0 is a free one. OSError when it cannot listen."""

    def __init__(self, port: int, mode: str) -> None:
        registry = CollectorRegistry()
        self._histograms = {
            field: Histogram(
                f"harness_replay_{field}_seconds", text, ["mode"], registry=registry, buckets=BUCKETS
            ).labels(mode)
            for field, text in (
                ("work", "Computing and applying a change"),
                ("queue", "Time that a due change waited for the previous sync"),
                ("convergence", "From the event to its rules being live, including all waiting time"),
            )
        }
        self._syncs = Counter("harness_replay_syncs", "Syncs so far", ["mode"], registry=registry).labels(mode)
        self._events = Gauge("harness_replay_events", "Events so far", ["mode"], registry=registry).labels(mode)
        self._differences = Gauge(
            "harness_replay_differences", "Differences between kernel and oracle", ["mode"], registry=registry
        ).labels(mode)
        server, self._thread = start_http_server(port, "127.0.0.1", registry)
        self._server = server
        self.port: int = server.server_port

    def add(self, sample: ChangeSample) -> None:
        """Count one change."""
        for field, value in sample._asdict().items():
            self._histograms[field].observe(value)

    def synced(self, events: int, differences: int) -> None:
        """Count one sync; set the numbers of events and differences so far."""
        self._syncs.inc()
        self._events.set(events)
        self._differences.set(differences)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Watchers:
    """The receivers of each change and each sync of a followed replay."""

    def __init__(self, rolling: Rolling | None = None, exporter: Exporter | None = None) -> None:
        self._rolling, self._exporter = rolling, exporter

    def changed(self, event: Event, sample: ChangeSample) -> None:
        """Report a completed change."""
        for each in (self._rolling, self._exporter):
            if each is not None:
                each.add(sample)

    def synced(self, events: int, differences: int) -> None:
        """Report a completed sync."""
        if self._exporter is not None:
            self._exporter.synced(events, differences)
