"""The daemon's one thread that touches state and kernel: it observes, waits for its time, syncs.

Everything else (followers, the address monitor, signals) hands it work through `put`, so nothing of
the engine needs a lock.
"""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from engine.kernel.base import KernelError
from engine.manifest import ManifestError
from engine.pacing import Pacer
from engine.proxier import Proxier, Sync, SyncError
from engine.server.logs import get_log
from engine.server.watching import Change

DELIVERY_LIMIT = 64
"""Deliveries that may wait; a follower that is faster waits, so pages do not pile up in memory."""

_log = get_log(__name__)


class Observer(Protocol):
    """Who wants to know what the loop does; called from its thread."""

    def changed(self, resource: str, change: Change) -> None:
        """An object was observed and something this node programs changed with it."""

    def queued(self) -> None:
        """A sync was asked for."""

    def started(self) -> None:
        """A sync begins with all that changed so far."""

    def synced(self, sync: Sync, seconds: float) -> None:
        """A sync succeeded (SYNC-09)."""

    def failed(self, error: SyncError, full: bool, seconds: float) -> None:
        """A sync failed, for at least one family."""

    def node(self, change: Change) -> None:
        """The own Node was seen, whether or not anything programmed depends on what changed."""


class Loop:
    """`needed` are the resources whose first list must be complete before anything is written (SYNC-01)."""

    def __init__(
        self,
        proxier: Proxier,
        pacer: Pacer,
        clock: Callable[[], float],
        observer: Observer,
        needed: tuple[str, ...] = ("services", "endpointslices"),
    ) -> None:
        self._proxier = proxier
        self._pacer = pacer
        self._clock = clock
        self._observer = observer
        self._missing = set(needed)
        # Its `put` may be called from a signal's handler, as no other queue's may.
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._room = threading.Semaphore(DELIVERY_LIMIT)
        self._chores: list[list] = []
        self._stopped = False
        self._settled = False

    def put(self, work: Callable[[], None]) -> None:
        """Have the loop's thread do something."""
        self._inbox.put(work)

    def deliver(self, resource: str, changes: list[Change], synced: bool) -> None:
        """A follower's changes, see `watching.Deliver`; waits while too much is waiting already."""
        self._room.acquire()
        self.put(partial(self._receive, resource, changes, synced))

    def resync(self, full: bool = False) -> None:
        """Ask for a sync; a full one when the kernel's state is in doubt."""
        self.put(partial(self._request, full))

    def stop(self) -> None:
        """End `run` soon, whatever waits."""
        self._stopped = True
        self._inbox.put(lambda: None)

    def every(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something from time to time; what it raises as KernelError is logged."""
        self._chores.append([self._clock() + seconds, seconds, work])

    def run(self) -> None:
        """Until `stop`; what the kernel refuses is logged and tried again, anything else ends it."""
        while not self._stopped:
            self._take(self._next() - self._clock())
            if self._pacer.due() <= self._clock():
                self._sync()
            self._do_chores()

    def _next(self) -> float:
        return min([self._pacer.due(), *(chore[0] for chore in self._chores)])

    def _take(self, seconds: float) -> None:
        """Do what waits in the inbox; with nothing there, wait for it no longer than until something is due."""
        try:
            work = self._inbox.get(timeout=min(seconds, 3600.0)) if seconds > 0 else self._inbox.get_nowait()
            work()
            # What arrives while a due sync waits must not keep it waiting.
            for _ in range(DELIVERY_LIMIT):
                self._inbox.get_nowait()()
        except queue.Empty:
            pass

    def _receive(self, resource: str, changes: list[Change], synced: bool) -> None:
        self._room.release()
        self._observe(resource, changes)
        if synced and resource in self._missing:
            self._missing.discard(resource)
            _log.info("Caches are synced", resource=resource)
            if not self._missing:
                self._pacer.open(self._clock())
                self._observer.queued()

    def _observe(self, resource: str, changes: list[Change]) -> None:
        changed = False
        for change in changes:
            try:
                if self._proxier.state.observe(change.type, resource, change.manifest):
                    changed = True
                    self._observer.changed(resource, change)
            except ManifestError as error:
                _log.error(error, "Ignored an object that makes no sense", resource=resource)
        if resource == "nodes" and changes:
            self._observer.node(changes[-1])
        if changed:
            self._request()

    def _request(self, full: bool = False) -> None:
        self._pacer.request(self._clock(), full)
        if self._pacer.opened:
            self._observer.queued()

    def _sync(self) -> None:
        started = self._clock()
        if self._pacer.started(started):
            self._proxier.resync()
        full = len(self._proxier.programmed) < len(self._proxier.dataplanes)
        self._observer.started()
        try:
            sync = self._proxier.sync()
        except SyncError as error:
            self._pacer.ended(self._clock(), ok=False, full=False)
            _log.error(error, "Sync failed", retry_seconds=self._pacer.retry_seconds)
            self._observer.failed(error, full, self._clock() - started)
            return
        self._pacer.ended(self._clock(), ok=True, full=sync.full)
        self._observer.synced(sync, self._clock() - started)
        if not self._settled:
            self._settled = True
            # What was loaded at the start stays: collections need not walk it again and again.
            gc.freeze()
            gc.enable()

    def _do_chores(self) -> None:
        for chore in self._chores:
            if chore[0] <= self._clock():
                chore[0] = self._clock() + chore[1]
                try:
                    chore[2]()
                except KernelError as error:
                    _log.error(error, "A chore failed")
