"""One family of a node's proxy: desired state, programmed state, and failures.

    changed names -> Dataplane -> Backend -> program -> kernel -> FlowTracker -> stale flows
                                     `- a Service that causes an error is set aside; the others are programmed

Families are independent of each other.  After a rejected program the next sync is a full one (SYNC-04), and no failure
loses a change: names stay pending until their step has succeeded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from engine.backends.interface import Backend, Hand, Streaming
from engine.config import ProxyConfig
from engine.conntrack import FlowTracker
from engine.dataplane import Dataplane, PlanChange
from engine.kernel.interface import Conntrack, KernelError, KernelOfMode
from engine.model import HostAddresses, Name
from engine.modes import Mode
from engine.program import Program
from engine.tracking import ClusterState

NewBackend = Callable[[int], Backend[Program]]

_log = logging.getLogger(__name__)


class Family:
    """The state of one family; `new_backend` creates an empty backend."""

    def __init__(self, family: int, config: ProxyConfig, mode: Mode, new_backend: NewBackend) -> None:
        self.family = family
        self.dataplane = Dataplane(family, config)
        self._flows = FlowTracker(family, config, mode)
        self._new_backend = new_backend
        self._backend: Backend[Program] | None = None
        self._set_aside: dict[Name, str] = {}
        self._dirty: dict[Name, None] = {}  # in order, so that sorting is cheap
        self._uncleaned: dict[Name, None] = {}

    @property
    def programmed(self) -> bool:
        """Whether the kernel accepted the last program; if not, the next one is a full program."""
        return self._backend is not None

    @property
    def degraded(self) -> Mapping[Name, str]:
        """Services that are programmed only in part, or not at all, and why."""
        return {**(self._backend.degraded if self._backend else {}), **self.dataplane.unplanned, **self._set_aside}

    def changed(self, names: Iterable[Name]) -> None:
        """Mark these Services for the next sync."""
        self._dirty.update(dict.fromkeys(names))

    def resync(self) -> None:
        """Make the next program a full one; Services that were set aside are retried."""
        self._backend = None
        self._set_aside.clear()

    def reconfigure(self, config: ProxyConfig, new_backend: NewBackend) -> None:
        """Use another configuration; the caller must also mark all Services as changed."""
        self.dataplane.reconfigure(config)
        self._flows.reconfigure(config)
        self._new_backend = new_backend
        self.resync()

    def prepare(self, hand: Hand) -> None:
        """Hand over the first parts of the next program, if it is a full one and its backend supports this."""
        if self._backend is None and isinstance(backend := self._new_backend(self.family), Streaming):
            backend.prepare(hand)

    def program(self, state: ClusterState, host: HostAddresses, hand: Hand | None = None) -> Program:
        """The program that brings the kernel to the desired state; KernelError if none can be computed.

        The parts of a full program are handed over, if `hand` takes them, while the rest is computed.
        """
        dirty, self._dirty = self._dirty, {}
        full = self._backend is None
        self._uncleaned.update(dirty)
        suspects: set[Name] = set()
        changes = self._planned(state, dirty, full, suspects)
        try:
            return self._whole(changes, host, hand) if self._backend is None else self._backend.plan([*changes], host)
        except Exception:  # an error in one Service must not affect the others
            for _ in changes:
                pass  # the rest must be planned all the same
            _log.exception("Failed to compute the IPv%d program; looking for the Services that cause it", self.family)
            self._backend = None
            try:
                return self._without_culprits(suspects, host)
            except Exception as error:  # not caused by a Service: callers expect KernelError
                self._backend = None
                raise KernelError(f"IPv{self.family}: failed to compute the program: {_text(error)}") from error

    def apply(self, kernel: KernelOfMode, program: Program) -> int:
        """Apply a program and return the bytes sent; KernelError for any failure."""
        try:
            return kernel.apply(program).bytes
        except Exception as error:  # no response of a kernel may end the loop
            self._backend = None
            if isinstance(error, KernelError):
                raise
            _log.exception("Unexpected error while applying the IPv%d program", self.family)
            raise KernelError(f"IPv{self.family}: {_text(error)}") from error

    def clean(self, state: ClusterState, host: HostAddresses, conntrack: Conntrack, whole: bool) -> int:
        """Remove stale flows and return their number; a failure is only logged (CT-03).

        `whole`: the sync was a full one.
        """
        plans = self.dataplane.plans
        if self._set_aside:  # no rule refers to their endpoints
            plans = {name: found for name, found in plans.items() if name not in self._set_aside}
        try:
            stale = self._flows.update(state, sorted(self._uncleaned), plans, host, whole)
            self._uncleaned.clear()
            removed = conntrack.remove(self.family, stale) if stale else 0
            self._flows.cleaned()
            return removed
        except Exception as error:  # the rules are live nevertheless
            _log.error("Failed to remove stale UDP flows of IPv%d: %s", self.family, _text(error))
            return 0

    def _planned(
        self, state: ClusterState, dirty: dict[Name, None], full: bool, changed: set[Name]
    ) -> Iterator[PlanChange]:
        """Plan the dirty Services one by one, in order, and collect the changed ones: all plans if `full`, or changes.

        A changed Service that was set aside is an addition.
        """
        for name in sorted({**dict.fromkeys(self.dataplane.plans), **dirty} if full else dirty):
            change = self.dataplane.replan(name, state) if name in dirty else None
            again = False
            if change:
                changed.add(name)
                again = self._set_aside.pop(name, None) is not None
            if not full:
                if change and (change.new or not again):
                    yield PlanChange(name, (), change.new) if again else change
            elif (plans := self.dataplane.plans.get(name)) and name not in self._set_aside:
                yield PlanChange(name, (), plans)

    def _wanted(self) -> list[PlanChange]:
        return [change for change in self.dataplane.everything() if change.service not in self._set_aside]

    def _whole(self, changes: Iterable[PlanChange], host: HostAddresses, hand: Hand | None = None) -> Program:
        backend = self._backend = self._new_backend(self.family)
        if not hand or not isinstance(backend, Streaming):
            return backend.plan([*changes], host)
        program: Program = backend.plan_ahead(changes, host, hand)
        return program

    def _without_culprits(self, suspects: set[Name], host: HostAddresses) -> Program:
        """A full program without the Services that make the backend raise; the suspects are tested first.

        A backend that raised must not be used again: after each culprit a new one gets the changes found good so far.
        """
        wanted = self._wanted()
        good = [change for change in wanted if change.service not in suspects]
        try:
            self._whole(good, host)
        except Exception:  # a Service that was not suspected is the cause
            if not good:
                raise
            return self._without_culprits({change.service for change in wanted}, host)
        for change in wanted:
            if change.service not in suspects:
                continue
            assert self._backend, "created by `_whole`"
            try:
                self._backend.plan([change], host)
                good.append(change)
            except Exception as error:  # this Service is the cause
                self._set_aside[change.service] = f"cannot be programmed: {_text(error)}"
                self._whole(good, host)
        return self._whole(good, host)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, KernelError) else f"{type(error).__name__}: {error}"
