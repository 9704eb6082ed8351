"""The loop's body: events in, one program a family out, applied and counted.

    observe(event) ... observe(event) -> sync() -> dataplane changes -> program -> kernel -> stale flows
                                          |------ compute ------|        |- apply -|   |- conntrack -|

When to sync is the caller's business: a replay cuts batches by the recording's clock, a daemon by
the real one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from engine.backends.base import Backend
from engine.backends.iptables import IptablesBackend
from engine.backends.ipvs import IpvsBackend
from engine.backends.nftables import NftablesBackend
from engine.backends.userspace import UserspaceBackend
from engine.config import ProxyConfig
from engine.conntrack import FlowTracker
from engine.dataplane import Dataplane
from engine.kernel.base import Conntrack, Kernel, KernelError
from engine.model import ADDRESS_BYTES, Address, HostAddresses, Name
from engine.program import Program
from engine.tracking import ClusterState

BACKENDS: dict[str, Callable[[int, ProxyConfig], Backend]] = {
    "iptables": IptablesBackend,
    "ipvs": IpvsBackend,
    "nftables": NftablesBackend,
    "userspace": UserspaceBackend,
}
_log = logging.getLogger(__name__)

FULL_ON_NODE_CHANGE = frozenset({"iptables"})
"""Modes that write everything anew when the Node changes (TOPO-07)."""


class Sync(NamedTuple):
    """What one sync did: seconds of each part, elements and bytes sent; `full` if a family was written anew.

    Stale flows are removed after a success; how many, and how long that took.
    """

    compute_seconds: float
    apply_seconds: float
    operations: int
    bytes: int
    full: bool
    programs: tuple[Program, ...]
    conntrack_seconds: float = 0.0
    conntrack_removed: int = 0
    removed_by_family: Mapping[int, int] = MappingProxyType({})


class SyncError(KernelError):
    """What the kernel refused, by family; other families are in place (DS-04)."""

    def __init__(self, refused: dict[int, KernelError]) -> None:
        super().__init__("; ".join(str(error) for error in refused.values()))
        self.refused = refused


class Proxier:
    """A node's service proxy for both families; `clock` gives seconds and only times the work.

    Without a `conntrack` no flow is ever looked at, as in kernels that only remember.  A node that is
    real has `local_addresses`; a replayed one has none but its Node object's.
    """

    def __init__(
        self,
        mode: str,
        config: ProxyConfig,
        kernel: Kernel,
        clock: Callable[[], float],
        node: str | None = None,
        conntrack: Conntrack | None = None,
        families: Iterable[int] = tuple(ADDRESS_BYTES),
        local_addresses: Callable[[], tuple[Address, ...]] | None = None,
    ) -> None:
        self.state = ClusterState(node)
        self.config = config
        self.dataplanes = {family: Dataplane(family, config) for family in families}
        self._local_addresses = local_addresses
        self._mode = mode
        self._backends: dict[int, Backend] = {}
        self._new_backend = partial(BACKENDS[mode], config=config)
        self._kernel = kernel
        self._clock = clock
        self._digest = hashlib.sha256(mode.encode())
        self._conntrack = conntrack
        self._flows = {family: FlowTracker(family, config) for family in self.dataplanes}
        self._uncleaned: set[Name] = set()

    @property
    def digest(self) -> str:
        """SHA-256 over every program so far, in order; no wall-clock figure enters it."""
        return self._digest.hexdigest()

    @property
    def programmed(self) -> tuple[int, ...]:
        """Families whose last program the kernel took."""
        return tuple(self._backends)

    def resync(self, family: int | None = None) -> None:
        """Let the next sync write everything anew, of one family or both.

        For whoever finds that the kernel lost it; a program that was refused has this effect too (SYNC-04).
        """
        for each in ADDRESS_BYTES if family is None else (family,):
            self._backends.pop(each, None)

    def reconfigure(self, config: ProxyConfig) -> None:
        """Run on other Service networks from the next sync on, which writes everything anew (NFT-09)."""
        self.config = config
        self._new_backend = partial(BACKENDS[self._mode], config=config)
        self.resync()

    def sync(self) -> Sync:
        """Bring the kernel to the state observed so far; SyncError when it refuses, of either family (DS-04)."""
        started = self._clock()
        if self.state.node_changed and self._mode in FULL_ON_NODE_CHANGE:
            self.resync()
        full = len(self._backends) < len(self.dataplanes)
        dirty = self.state.take_dirty()
        self._uncleaned.update(dirty)  # those of a sync that fails wait for one that does not
        programs = self._programs(dirty)
        for program in programs:
            self._digest.update(program.digest())
        computed = self._clock()
        sent = self._apply(programs)
        applied = self._clock()
        operations = sum(program.operations for program in programs)
        removed = self._remove_stale_flows() if self._conntrack else {}
        cleaned = self._clock() - applied
        seconds = computed - started, applied - computed
        return Sync(*seconds, operations, sent, full, tuple(programs), cleaned, sum(removed.values()), removed)

    def _remove_stale_flows(self) -> dict[int, int]:
        """How many of each family; a failure is only logged: rules are live, the next change tries again (CT-03)."""
        dirty, self._uncleaned = sorted(self._uncleaned), set()
        removed = {}
        for family, flows in self._flows.items():
            stale = flows.update(self.state, dirty, self.dataplanes[family].plans)
            try:
                removed[family] = self._conntrack.remove(family, stale) if stale else 0
            except KernelError as error:
                _log.error("Failed to remove stale UDP flows of IPv%d: %s", family, error)
        return removed

    def _apply(self, programs: list[Program]) -> int:
        sent = 0
        refused = {}
        for program in programs:
            try:
                sent += self._kernel.apply(program).bytes
            except KernelError as error:
                self.resync(program.family)
                refused[program.family] = error
        if refused:
            raise SyncError(refused)
        return sent

    def _programs(self, dirty: list[Name]) -> list[Program]:
        host = self._host()
        plans = []
        for family, dataplane in self.dataplanes.items():
            changes = dataplane.update(self.state, dirty)
            if family not in self._backends:
                self._backends[family] = self._new_backend(family)
                changes = dataplane.everything()
            plans.append(self._backends[family].plan(changes, host))
        return [program for program in plans if program]

    def _host(self) -> HostAddresses:
        """The machine's addresses: its own where it is real, else what the Node object says."""
        host = self.config.host(self.state.node)
        return host._replace(local=self._local_addresses()) if self._local_addresses else host
