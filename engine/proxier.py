"""The body of the sync loop: events in, one program per family out, applied and counted.

    observe(event) ... observe(event) -> sync() -> dataplane changes -> program -> kernel -> stale flows
                                          |------ compute ------|        |- apply -|   |- conntrack -|

Families share only the observed state (`engine.family`): each may be synced separately.  The caller decides when to
sync: a replay by the recording's clock, a daemon by the real one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from engine.backends.interface import Hand
from engine.config import ProxyConfig
from engine.dataplane import Dataplane
from engine.family import Family, NewBackend
from engine.kernel.interface import Conntrack, KernelError, KernelOfMode, TakesParts
from engine.model import ADDRESS_BYTES, Address, HostAddresses, Name
from engine.modes import MODES
from engine.program import Program
from engine.tracking import ClusterState


class Sync(NamedTuple):
    """Result of one sync: seconds of each part, elements and bytes sent; `full` if a family was written completely.

    After a successful sync stale flows are removed: `conntrack_removed` of them in `conntrack_seconds`.
    """

    compute_seconds: float
    apply_seconds: float
    operations: int
    bytes: int
    full: bool
    programs: tuple[Program, ...]
    conntrack_seconds: float = 0.0
    conntrack_removed: int = 0


class SyncError(KernelError):
    """Errors by family; the other families have been applied (DS-04)."""

    def __init__(self, refused: dict[int, KernelError]) -> None:
        super().__init__("; ".join(str(error) for error in refused.values()))
        self.refused = refused


class Proxier:
    """A node's service proxy for its families; `clock` returns seconds and is only used to time the work.

    Without a `conntrack` flows are ignored, as with in-memory kernels.  A real node has `local_addresses`;
    a replayed one uses those of its Node object.
    """

    def __init__(
        self,
        mode: str,
        config: ProxyConfig,
        kernel: KernelOfMode,
        clock: Callable[[], float],
        node: str | None = None,
        conntrack: Conntrack | None = None,
        families: Iterable[int] = tuple(ADDRESS_BYTES),
        local_addresses: Callable[[], tuple[Address, ...]] | None = None,
        flow_addresses: tuple[Address, ...] = (),
    ) -> None:
        """`local_addresses` are those of a real node.  `flow_addresses` are more addresses of a simulated
        node, which no program names but flows may have.
        """
        self.state = ClusterState(node, config.version)
        self.config = config
        self._mode = MODES[mode]
        self._families = {family: Family(family, config, self._mode, self._new_backend()) for family in families}
        self._local_addresses, self._flow_addresses = local_addresses, flow_addresses
        self._kernel = kernel
        self._parts = kernel if isinstance(kernel, TakesParts) else None
        self._clock = clock
        self._digest = hashlib.sha256(mode.encode())
        self._conntrack = conntrack

    @property
    def digest(self) -> str:
        """SHA-256 over every program so far, in order; independent of time."""
        return self._digest.hexdigest()

    @property
    def dataplanes(self) -> dict[int, Dataplane]:
        """The plans of each family."""
        return {number: family.dataplane for number, family in self._families.items()}

    @property
    def programmed(self) -> tuple[int, ...]:
        """Families whose last program the kernel accepted."""
        return tuple(number for number, family in self._families.items() if family.programmed)

    def degraded(self, family: int) -> dict[Name, str]:
        """Services that are not programmed as specified in this family, and why."""
        return dict(self._families[family].degraded)

    def resync(self, family: int | None = None) -> None:
        """Make the next sync a full one, for one family or all: the kernel has lost the rules."""
        for each in self._chosen(None if family is None else (family,)):
            each.resync()

    def reconfigure(self, config: ProxyConfig) -> None:
        """Use other networks or addresses from the next sync on, which is a full one (NFT-09)."""
        self.config = config
        for each in self._families.values():
            each.reconfigure(config, self._new_backend())
            each.changed(self.state.services)

    def prepare(self) -> None:
        """Begin with what the first programs have in any case, while the state is still read."""
        for each in self._families.values():
            if hand := self._hand(each.family):
                each.prepare(hand)

    def abandon(self) -> None:
        """Remove what was begun, as there will be no sync."""
        if self._parts:
            self._parts.abandon(tuple(self._families))

    def sync(self, families: Iterable[int] | None = None) -> Sync:
        """Bring the kernel to the observed state, in these families or all; SyncError lists those that failed."""
        started = self._clock()
        if self.state.node_changed and self._mode.full_on_node_change:
            self.resync()
        dirty = self.state.take_dirty()
        for each in self._families.values():
            each.changed(dirty)  # kept by a family that is not synced now, or fails
        done, refused = [Sync(self._clock() - started, 0.0, 0, 0, full=False, programs=())], {}
        for each in self._chosen(families):
            try:
                done.append(self._sync(each))
            except KernelError as error:
                refused[each.family] = _detached(error)
        if refused:
            raise SyncError(refused)
        return _total(done)

    def _chosen(self, families: Iterable[int] | None) -> list[Family]:
        return [self._families[number] for number in (self._families if families is None else families)]

    def _sync(self, family: Family) -> Sync:
        full, started = not family.programmed, self._clock()
        host = self._host()
        program = family.program(self.state, host, self._hand(family.family))
        programs = (program,) if program else ()
        for each in programs:
            self._digest.update(each.digest())
        computed = self._clock()
        sent = sum(family.apply(self._kernel, each) for each in programs)
        applied = self._clock()
        anywhere = host._replace(local=(*host.local, *self._flow_addresses))
        removed = family.clean(self.state, anywhere, self._conntrack, full) if self._conntrack else 0
        seconds = computed - started, applied - computed
        operations = sum(each.operations for each in programs)
        return Sync(*seconds, operations, sent, full, programs, self._clock() - applied, removed)

    def _hand(self, family: int) -> Hand | None:
        return partial(self._parts.ahead, family) if self._parts else None

    def _new_backend(self) -> NewBackend:
        make, config = self._mode.backend, self.config
        return lambda family: make(family, config)

    def _host(self) -> HostAddresses:
        """The machine's addresses: its own if it is real, else those of the Node object."""
        host = self.config.host(self.state.node)
        return host._replace(local=self._local_addresses()) if self._local_addresses else host


def _detached(error: KernelError) -> KernelError:
    """The error without tracebacks, those of its causes included.

    Their frames lead back to the caller's errors (since Python 3.12): the cycle would keep the program alive.
    """
    each: BaseException | None = error
    while each:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


def _total(syncs: list[Sync]) -> Sync:
    return Sync(
        sum(sync.compute_seconds for sync in syncs),
        sum(sync.apply_seconds for sync in syncs),
        sum(sync.operations for sync in syncs),
        sum(sync.bytes for sync in syncs),
        any(sync.full for sync in syncs),
        tuple(program for sync in syncs for program in sync.programs),
        sum(sync.conntrack_seconds for sync in syncs),
        sum(sync.conntrack_removed for sync in syncs),
    )
