"""The loop's body: events in, one program a family out, applied and counted.

    observe(event) ... observe(event) -> sync() -> dataplane changes -> program -> kernel
                                          |------ compute ------|        |- apply -|

When to sync is the caller's business: a replay cuts batches by the recording's clock, a daemon by
the real one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from engine.backends.base import Backend
from engine.backends.ipvs import IpvsBackend
from engine.backends.nftables import NftablesBackend
from engine.backends.userspace import UserspaceBackend
from engine.config import ProxyConfig
from engine.dataplane import Dataplane
from engine.kernel.base import Kernel
from engine.model import ADDRESS_BYTES
from engine.program import Program
from engine.tracking import ClusterState

BACKENDS: dict[str, Callable[[int, ProxyConfig], Backend]] = {
    "ipvs": IpvsBackend,
    "nftables": NftablesBackend,
    "userspace": UserspaceBackend,
}


class Sync(NamedTuple):
    """What one sync did: seconds of each part, elements and bytes sent."""

    compute_seconds: float
    apply_seconds: float
    operations: int
    bytes: int


class Proxier:
    """A node's service proxy for both families; `clock` gives seconds and only times the work."""

    def __init__(
        self, mode: str, config: ProxyConfig, kernel: Kernel, clock: Callable[[], float], node: str | None = None
    ) -> None:
        self.state = ClusterState(node)
        self.config = config
        self.dataplanes = {family: Dataplane(family, config) for family in ADDRESS_BYTES}
        self._backends = {family: BACKENDS[mode](family, config) for family in ADDRESS_BYTES}
        self._kernel = kernel
        self._clock = clock
        self._digest = hashlib.sha256(mode.encode())

    @property
    def digest(self) -> str:
        """SHA-256 over every program so far, in order; no wall-clock figure enters it."""
        return self._digest.hexdigest()

    def sync(self) -> Sync:
        """Bring the kernel to the state observed so far; KernelError when it refuses."""
        started = self._clock()
        programs = self._programs()
        for program in programs:
            self._digest.update(program.digest())
        computed = self._clock()
        sent = sum(self._kernel.apply(program).bytes for program in programs)
        operations = sum(program.operations for program in programs)
        return Sync(computed - started, self._clock() - computed, operations, sent)

    def _programs(self) -> list[Program]:
        dirty = self.state.take_dirty()
        # A replayed node has no interfaces of its own: what its Node object says is local to it.
        host = self.config.host(self.state.node)
        plans = []
        for family, dataplane in self.dataplanes.items():
            changes = dataplane.update(self.state, dirty)
            plans.append(self._backends[family].plan(changes, host))
        return [program for program in plans if program]
