"""Whether the proxy is up to date, and whether its node should get traffic (HC-06, HC-09). No I/O.

A family is healthy if no update is pending, or the oldest one has been pending for less than twice the sync
period: an idle proxy is healthy, even without an API server (INV-02), but not if the server answers 401.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

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
    """Whether a Node should get traffic: it is neither being nor about to be deleted (HC-09)."""
    node = msgspec.json.decode(manifest, type=_Node)
    taints = (node.spec and node.spec.taints) or ()
    return not node.metadata.deletionTimestamp and all(taint.key != TO_BE_DELETED for taint in taints)


class FamilyHealth(NamedTuple):
    """`updated`: time of the last success in seconds since 1970, 0 before the first."""

    updated: float
    healthy: bool


class Health:
    """Updated by the loop, read by HTTP threads. `clock` returns seconds since 1970."""

    def __init__(
        self, clock: Callable[[], float], sync_seconds: float, families: Iterable[int], node_eligible: bool = True
    ) -> None:
        self._clock = clock
        self._limit = 2 * sync_seconds
        self._lock = threading.Lock()
        self._waiting: dict[int, float | None] = dict.fromkeys(families)
        self._updated: dict[int, float] = dict.fromkeys(self._waiting, 0.0)
        self._refused: float | None = None
        self.node_eligible = node_eligible

    def queued(self) -> None:
        """An update is pending from now on, unless an older one is."""
        now = self._clock()
        with self._lock:
            for family, since in self._waiting.items():
                self._waiting[family] = now if since is None else since

    def updated(self, families: Iterable[int]) -> None:
        """These families are up to date."""
        with self._lock:
            for family in families:
                self._updated[family] = self._clock()
                self._waiting[family] = None

    def healthy(self) -> bool:
        """Whether all families are healthy."""
        return all(state.healthy for state in self.by_family().values())

    def by_family(self) -> dict[int, FamilyHealth]:
        """The last success of each family, and whether it is healthy."""
        now = self._clock()
        with self._lock:
            return {
                family: FamilyHealth(self._updated[family], since is None or now - since < self._limit)
                for family, since in self._waiting.items()
            }

    def answered(self, status: int) -> None:
        """The API server's status code; with 401 this node no longer receives changes."""
        with self._lock:
            self._refused = (self._refused or self._clock()) if status == 401 else None

    def authorized(self) -> bool:
        """Whether the API server accepts our credentials, or has refused them for less than the limit."""
        with self._lock:
            return self._refused is None or self._clock() - self._refused < self._limit
