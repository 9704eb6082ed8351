"""Whether the proxy keeps up, and whether its node should get traffic (HC-06, HC-09). No I/O.

Each family is healthy while no update waits, or the oldest one has waited less than twice the sync
period: an idle proxy is a healthy one, also without an API server (INV-02).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import msgspec

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"


class _Taint(msgspec.Struct):
    key: str = ""


class _Meta(msgspec.Struct):
    deletionTimestamp: str | None = None


class _Spec(msgspec.Struct):
    taints: list[_Taint] | None = None


class _Node(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Spec | None = None


def eligible(manifest: bytes) -> bool:
    """Whether a Node should get traffic: not being deleted, not about to be (HC-09)."""
    node = msgspec.json.decode(manifest, type=_Node)
    taints = (node.spec and node.spec.taints) or ()
    return not node.metadata.deletionTimestamp and all(taint.key != TO_BE_DELETED for taint in taints)


class Health:
    """Told by the loop, asked by HTTP's threads. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float], sync_seconds: float, families: Iterable[int]) -> None:
        self._clock = clock
        self._limit = 2 * sync_seconds
        self._lock = threading.Lock()
        self._waiting: dict[int, float | None] = dict.fromkeys(families)
        self._updated = 0.0
        self.node_eligible = True

    def queued(self) -> None:
        """An update waits from now on, unless an older one does already."""
        now = self._clock()
        with self._lock:
            for family, since in self._waiting.items():
                self._waiting[family] = now if since is None else since

    def updated(self, families: Iterable[int]) -> None:
        """These families are as they should be."""
        with self._lock:
            self._updated = self._clock()
            for family in families:
                self._waiting[family] = None

    def healthy(self) -> bool:
        """Whether all families keep up."""
        now = self._clock()
        with self._lock:
            return all(since is None or now - since < self._limit for since in self._waiting.values())

    def last_updated(self) -> float:
        """Seconds since 1970 of the last success; 0 before the first."""
        return self._updated
