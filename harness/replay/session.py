"""One run: the initial list to every rule live, then batch after batch, each change timed.

A change's convergence is counted on the recording's clock: from the event to the end of the sync
that carried it, where a sync starts when it is due or when the one before has ended, whichever is
later.  So a slow sync makes the next one late, and no wait is hidden, at any replay speed.
"""

from __future__ import annotations

import resource as process
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.addresses import format_address
from engine.config import ProxyConfig
from engine.manifest import ManifestError
from engine.model import Network
from engine.proxier import Proxier, Sync
from harness.events import OBJECT_TYPES, Event
from harness.oracle import Oracle, Settings
from harness.recording import open_source
from harness.recording.follow import Follow
from harness.recording.window import Window
from harness.replay.config import proxy_config
from harness.replay.kernels import Target
from harness.replay.result import Result
from harness.replay.schedule import Batch, batches, initial_part
from harness.replay.verify import connections, differences

NS = 1_000_000_000


@dataclass(frozen=True)
class Options:
    """What a user may choose; `speed` None is as fast as possible, periods in nanoseconds."""

    mode: str = "nftables"
    min_sync_period: int = NS
    speed: float | None = None
    node: str | None = None
    pod_networks: tuple[Network, ...] | None = None
    window: Window = Window()
    verify: bool = True
    check_every: int = 500
    follow: Follow | None = None


Progress = Callable[[str, int], None]


class Session:
    """Replays one source into one opened kernel; use once."""

    def __init__(self, source: str, options: Options, target: Target, progress: Progress) -> None:
        self._source = source
        self._options = options
        self._target = target
        self._progress = progress
        self._events = 0
        self._finished = 0.0
        self._unseen: list[Event] = []
        self._oracle: Oracle | None = None

    def run(self) -> Result:
        """RecordingError for bad input, KernelError when the kernel refuses."""
        started = time.perf_counter()
        with open_source(self._source, self._options.follow) as recording:
            self._recording, self._window = recording, _narrowed(self._options.window, recording.take_window())
            events = iter(recording)
            self._proxier = Proxier(
                self._options.mode,
                self._config(recording.header.cluster),
                self._target.kernel,
                time.perf_counter,
                self._options.node,
                conntrack=self._target.conntrack,
            )
            self._result = Result(
                recording={"path": self._source},
                engine={"mode": self._options.mode, "min_sync_period_seconds": self._options.min_sync_period / NS},
                kernel=self._target.facts,
            )
            rest = self._initial(events, started)
            self._churn(batches(rest, events, self._window, self._options.min_sync_period))
            for _ in () if self._options.follow else events:
                pass  # the rest of a cut-off recording still belongs to its checksum
            self._result.recording["sha256"] = recording.sha256
        return self._finish()

    def _config(self, cluster: dict) -> ProxyConfig:
        """The options', else what the recording's header says of the cluster."""
        return proxy_config(self._source, cluster, self._options.pod_networks)

    def _settings(self) -> Settings:
        """The configuration in the oracle's words."""
        networks = self._proxier.config.pod_networks
        return Settings(cluster_cidr=",".join(f"{format_address(n.address)}/{n.prefix}" for n in networks))

    def _initial(self, events: Iterator[Event], started: float) -> list[Event]:
        walk, rest = initial_part(events, self._window)
        services = 0
        for event in walk:
            self._observe(event)
            if event.resource == "services":
                services += (event.type == "ADDED") - (event.type == "DELETED")
        read = time.perf_counter() - started
        sync = self._proxier.sync()
        self._account(sync)
        self._result.initial = {
            "seconds": time.perf_counter() - started,
            "read_seconds": read,
            "compute_seconds": sync.compute_seconds,
            "apply_seconds": sync.apply_seconds,
            "conntrack_seconds": sync.conntrack_seconds,
        }
        state = self._proxier.state
        self._result.recording["services"] = services
        self._result.recording["endpoints"] = sum(
            len(piece.endpoints) for slices in state.slices.values() for piece in slices.values()
        )
        self._result.engine["node"] = state.node_name
        self._check("the initial sync", packets=True)
        return rest

    def _churn(self, cut: Iterator[Batch]) -> None:
        origin = None
        wall = time.perf_counter()
        for batch in cut:
            origin = batch.events[0].t if origin is None else origin
            if self._options.speed:
                due = wall + (batch.due - origin) / NS / self._options.speed
                time.sleep(max(0.0, due - time.perf_counter()))
            self._sync_batch(batch)
            if self._result.syncs % self._options.check_every == 0:
                self._check(f"sync {self._result.syncs}")

    def _sync_batch(self, batch: Batch) -> None:
        started = time.perf_counter()
        changed = [event for event in batch.events if self._observe(event)]
        if not self._proxier.state.pending:
            return
        observed = time.perf_counter() - started
        sync = self._proxier.sync()
        self._account(sync)
        work = observed + sync.compute_seconds + sync.apply_seconds
        self._finished = max(batch.due / NS, self._finished) + work + sync.conntrack_seconds
        for event in changed:
            latency = self._finished - event.t / NS
            self._result.convergence.record(latency)
            self._result.work.record(work)
            self._result.conntrack.record(sync.conntrack_seconds)
            self._result.by_kind[_kind(event)].record(latency)

    def _observe(self, event: Event) -> bool:
        if event.ticks:
            return False
        self._events += 1
        if self._options.verify:
            self._unseen.append(event)
        if self._events % 1000 == 0:
            self._progress("events", self._events)
        if event.type not in OBJECT_TYPES:
            return False
        try:
            return self._proxier.state.observe(event.type, event.resource, event.object)
        except ManifestError as error:
            raise self._recording.error(event, f"{event.type} {event.resource}: {error}") from error

    def _account(self, sync: Sync) -> None:
        self._result.syncs += 1
        self._result.operations += sync.operations
        self._result.bytes += sync.bytes
        self._result.flows_removed += sync.conntrack_removed

    def _check(self, moment: str, packets: bool = False) -> None:
        """Compare kernel and oracle now, outside all measured time; `packets`: by connecting too."""
        if not self._options.verify:
            return
        self._progress("checking", self._events)
        if self._oracle is None:
            self._oracle = Oracle(self._proxier.state.node_name, self._settings())
        for event in self._unseen:
            self._oracle.observe(event)
        self._unseen.clear()
        found = differences(self._proxier, self._target.view, self._oracle, self._options.mode)
        if packets and self._target.place and self._target.place.kind in ("netns", "uml"):
            tried, lost = connections(self._proxier, self._target.place, self._oracle, self._options.mode)
            self._result.connections += tried
            found += lost
        self._result.checks += 1
        self._result.differences += [f"after {moment}: {line}" for line in found]

    def _finish(self) -> Result:
        self._check("the last sync", packets=True)
        result = self._result
        result.recording["events"] = self._events
        result.digest = self._proxier.digest
        result.verified = not result.differences if self._options.verify else "unknown"
        result.peak_rss_bytes = process.getrusage(process.RUSAGE_SELF).ru_maxrss * 1024
        return result


def _narrowed(asked: Window, named: Window) -> Window:
    """The options' window, and where they leave an end open, the one in the source's name."""
    return Window(asked.start or named.start, asked.until or named.until)


def _kind(event: Event) -> str:
    if event.type == "DELETED":
        return "deletes"
    return "service-edits" if event.resource == "services" else "endpointslice-changes"
