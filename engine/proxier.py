"""The loop's body: events in, one program a family out, applied and counted.

    observe(event) ... observe(event) -> sync() -> dataplane changes -> program -> kernel
                                          |------ compute ------|        |- apply -|

When to sync is the caller's business: a replay cuts batches by the recording's clock, a daemon by
the real one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from engine.backends.base import Backend
from engine.backends.ipvs import IpvsBackend
from engine.backends.nftables import NftablesBackend
from engine.config import ProxyConfig
from engine.dataplane import Change, Dataplane
from engine.kernel.base import Kernel, KernelError
from engine.model import ADDRESS_BYTES, Address, HostAddresses
from engine.program import Program
from engine.tracking import ClusterState

BACKENDS: dict[str, Callable[[int, ProxyConfig], Backend]] = {"ipvs": IpvsBackend, "nftables": NftablesBackend}


class Sync(NamedTuple):
    """What one sync did: seconds of each part, elements and bytes sent."""

    compute_seconds: float
    apply_seconds: float
    operations: int
    bytes: int


class SyncError(KernelError):
    """What the kernel refused, by family; other families are in place."""

    def __init__(self, refused: dict[int, KernelError]) -> None:
        super().__init__("; ".join(str(error) for error in refused.values()))
        self.refused = refused


class Proxier:
    """A node's service proxy for both families; `clock` gives seconds and only times the work."""

    def __init__(
        self,
        mode: str,
        config: ProxyConfig,
        kernel: Kernel,
        clock: Callable[[], float],
        node: str | None = None,
        families: Iterable[int] = tuple(ADDRESS_BYTES),
        local_addresses: Callable[[], tuple[Address, ...]] | None = None,
    ) -> None:
        self.state = ClusterState(node)
        self.config = config
        self.dataplanes = {family: Dataplane(family, config) for family in families}
        self._make_backend = BACKENDS[mode]
        self._backends: dict[int, Backend] = {}
        self._kernel = kernel
        self._local_addresses = local_addresses
        self._clock = clock
        self._digest = hashlib.sha256(mode.encode())

    @property
    def digest(self) -> str:
        """SHA-256 over every program so far, in order; no wall-clock figure enters it."""
        return self._digest.hexdigest()

    def sync(self, full: bool = False) -> Sync:
        """Bring the kernel to the state observed so far, a full sync whatever it holds.

        A family that the kernel refuses does not stop the other one (DS-04) and is synced in full the
        next time, its changes being consumed (SYNC-10).  Raises SyncError after all were tried.
        """
        started = self._clock()
        programs = self._programs(full)
        for program in programs:
            self._digest.update(program.digest())
        computed = self._clock()
        sent, refused = 0, {}
        for program in programs:
            try:
                sent += self._kernel.apply(program).bytes
            except KernelError as error:
                refused[program.family] = error
                del self._backends[program.family]
        if refused:
            raise SyncError(refused)
        operations = sum(program.operations for program in programs)
        return Sync(computed - started, self._clock() - computed, operations, sent)

    def _programs(self, full: bool) -> list[Program]:
        dirty = self.state.take_dirty()
        host = self._host()
        programs = []
        for family, dataplane in self.dataplanes.items():
            changes = dataplane.update(self.state, dirty)
            if full or family not in self._backends:
                # A backend that knows nothing starts anew, from everything.
                self._backends[family] = self._make_backend(family, self.config)
                changes = [Change(name, (), plans) for name, plans in sorted(dataplane.plans.items())]
            programs.append(self._backends[family].plan(changes, host))
        return [program for program in programs if program]

    def _host(self) -> HostAddresses:
        """The machine's addresses; a replayed node has no interfaces: what its Node object says is local to it."""
        host = self.config.host(self.state.node)
        return host._replace(local=self._local_addresses()) if self._local_addresses else host
