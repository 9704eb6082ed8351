"""The daemon's only thread that accesses state and kernel: it observes events and runs syncs when they are due.

All other threads (followers, the address monitor) and signal handlers pass work to it with `put`, so the engine
needs no locks.
"""

from __future__ import annotations

import gc
import queue
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from engine.kernel.interface import KernelError
from engine.pacing import Pacer
from engine.proxier import Proxier, Sync
from engine.server.api.watching import ObjectChange
from engine.server.runtime.logs import get_log

LISTS = frozenset({"services", "endpointslices"})
"""Resources that take long to list; the kernel is prepared once all others are listed."""
DELIVERY_LIMIT = 64
"""Maximum of queued deliveries; a faster follower blocks, so that pages do not accumulate in memory."""

_log = get_log(__name__)


class LoopObserver(Protocol):
    """Receives notifications of the loop, in its thread."""

    def changed(self, resource: str, changes: list[ObjectChange]) -> None:
        """Objects were observed that change what this node programs."""

    def queued(self) -> None:
        """A sync was requested."""

    def started(self, family: int) -> None:
        """A family's sync begins, with all changes so far."""

    def synced(self, family: int, sync: Sync, seconds: float) -> None:
        """The sync succeeded (SYNC-09)."""

    def failed(self, family: int, error: Exception, full: bool, seconds: float) -> None:
        """The sync failed; the other family is not affected."""

    def node(self, change: ObjectChange) -> None:
        """This node's Node object was received, whether or not the change affects what is programmed."""


@dataclass
class _Chore:
    """Work to run every `seconds`, next at `due` on the loop's clock."""

    due: float
    seconds: float
    work: Callable[[], object]


class Loop:
    """The daemon's main loop.

    `needed` are the resources whose first list must be complete before anything is written (SYNC-01).
    Each family has its own pacer from `new_pacer`, so that a failing family does not delay the other.
    """

    def __init__(
        self,
        proxier: Proxier,
        new_pacer: Callable[[], Pacer],
        clock: Callable[[], float],
        observer: LoopObserver,
        needed: tuple[str, ...] = ("services", "endpointslices"),
    ) -> None:
        self._proxier = proxier
        self._pacers = {family: new_pacer() for family in proxier.dataplanes}
        self._clock = clock
        self._observer = observer
        self._missing = set(needed)
        # SimpleQueue.put is reentrant, so that it may be called from a signal handler.
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._room = threading.Semaphore(DELIVERY_LIMIT)
        self._chores: list[_Chore] = []
        self._stopped = False
        self._unsettled = set(self._pacers)
        self._prepared = False

    def put(self, work: Callable[[], None]) -> None:
        """Run `work` in the loop's thread."""
        self._inbox.put(work)

    def deliver(self, resource: str, changes: list[ObjectChange], synced: bool) -> None:
        """Queue a follower's changes, see `watching.Deliver`; blocks while DELIVERY_LIMIT deliveries are queued."""
        self._room.acquire()
        self.put(partial(self._receive, resource, changes, synced))

    def resync(self, full: bool = False, families: Iterable[int] | None = None) -> None:
        """Request a sync of some families, or all; a full one if the kernel's state is unknown."""
        self.put(partial(self._request, full, families))

    def stop(self) -> None:
        """End `run` soon, even if work is queued."""
        self._stopped = True
        self._inbox.put(lambda: None)

    def every(self, seconds: float, work: Callable[[], object]) -> None:
        """Run `work` periodically; exceptions are logged."""
        self._chores.append(_Chore(self._clock() + seconds, seconds, work))

    def run(self) -> None:
        """Run until `stop`; errors of the API or the kernel are logged and do not end the loop."""
        self._prepare()
        while not self._stopped:
            self._take(self._next() - self._clock())
            for family, pacer in self._pacers.items():
                if pacer.due() <= self._clock() and not self._stopped:
                    self._sync(family, pacer)
            self._do_chores()
        self._proxier.abandon()

    def _prepare(self) -> None:
        if not self._prepared and LISTS.issuperset(self._missing):
            self._prepared = True
            self._proxier.prepare()

    def _next(self) -> float:
        return min([*(pacer.due() for pacer in self._pacers.values()), *(chore.due for chore in self._chores)])

    def _take(self, seconds: float) -> None:
        """Run the queued work; if there is none, wait for it until something is due."""
        try:
            work = self._inbox.get(timeout=min(seconds, 3600.0)) if seconds > 0 else self._inbox.get_nowait()
            # The limit keeps new arrivals from delaying a due sync.
            for _ in range(DELIVERY_LIMIT):
                _guarded(work, "Queued work failed")
                work = self._inbox.get_nowait()
            _guarded(work, "Queued work failed")
        except queue.Empty:
            pass

    def _receive(self, resource: str, changes: list[ObjectChange], synced: bool) -> None:
        self._room.release()
        self._observe(resource, changes)
        if synced and resource in self._missing:
            self._missing.discard(resource)
            _log.info("Caches are synced", resource=resource)
            self._prepare()
            if not self._missing:
                for pacer in self._pacers.values():
                    pacer.open(self._clock())
                self._observer.queued()

    def _observe(self, resource: str, changes: list[ObjectChange]) -> None:
        changed: list[ObjectChange] = []
        for change in changes:
            try:
                if self._proxier.state.observe(change.type, resource, change.manifest):
                    changed.append(change)
            except Exception as error:  # a ManifestError or a bug: it must not affect other objects
                _log.error(error, "Ignored an invalid object", resource=resource, kind=type(error).__name__)
        if changed:
            self._observer.changed(resource, changed)
        if resource == "nodes" and changes:
            self._observer.node(changes[-1])
        if changed:
            self._request()

    def _request(self, full: bool = False, families: Iterable[int] | None = None) -> None:
        for family in self._pacers if families is None else families:
            self._pacers[family].request(self._clock(), full)
        if not self._missing:
            self._observer.queued()

    def _sync(self, family: int, pacer: Pacer) -> None:
        started = self._clock()
        if pacer.started(started):
            self._proxier.resync(family)
        full = family not in self._proxier.programmed
        try:
            self._observer.started(family)
            sync = self._proxier.sync((family,))
        except Exception as error:  # retried with backoff
            pacer.ended(self._clock(), ok=False, full=False)
            retry = round(pacer.due() - self._clock(), 3)
            _log.error(error, "Sync failed", ipFamily=f"IPv{family}", retry_seconds=retry)
            report = partial(self._observer.failed, family, error, full)
        else:
            pacer.ended(self._clock(), ok=True, full=sync.full)
            report = partial(self._observer.synced, family, sync)
        _guarded(lambda: report(self._clock() - started), "Failed to report a sync")
        self._settle(family)

    def _settle(self, family: int) -> None:
        """Once each family has synced, exclude the long-lived objects of the start from garbage collection."""
        if family in self._unsettled:
            self._unsettled.discard(family)
            if not self._unsettled:
                gc.freeze()
                gc.enable()

    def _do_chores(self) -> None:
        for chore in self._chores:
            if chore.due <= self._clock():
                chore.due = self._clock() + chore.seconds
                _guarded(chore.work, "A periodic task failed")


def _guarded(work: Callable[[], object], message: str) -> None:
    """Run `work`; exceptions are logged and suppressed."""
    try:
        work()
    except KernelError as error:
        _log.error(error, message)
    except Exception as error:  # a bug: log its traceback too
        _log.error(error, message, stacktrace=traceback.format_exc())
