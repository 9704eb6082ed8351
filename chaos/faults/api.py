"""Faults of the API server: down, slow, watches dropped, history compacted repeatedly (410 Gone)."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.faults.unseen_changes import changed_pods, with_changes
from chaos.model import Chosen, Cluster, Condition, Effect, Fault, Op, Script

_HEAL = (Op(0, "api.heal", {}),)
_HEALED = (Condition("api", "api", "faults", []),)


def _script(kind: str, chosen: Chosen, lasts: float, **how: float) -> Script:
    script = Script(
        (Op(0, "api.fault", {"kind": kind, **how}),), (Condition("api", "api", "faults", [kind]),), _HEAL, _HEALED
    )
    return with_changes(script, chosen.pods, lasts)


class _Fault(Fault, frozen=True, kw_only=True):
    unready: int = 0

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen(changed_pods(cluster, rng, self.unready))


class ApiDown(_Fault, frozen=True):
    """Nothing listens at the API's address, and all connections to it are closed."""

    NAME: ClassVar[str] = "api-down"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.ALL_BLIND})
    MEANWHILE: ClassVar[str] = "the API was down"

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return _script("down", chosen, seconds)


class ApiSlow(_Fault, frozen=True):
    """Every new request waits `delay_seconds` for its answer; open watches continue."""

    NAME: ClassVar[str] = "api-slow"
    MEANWHILE: ClassVar[str] = "the API was slow"
    delay_seconds: float = 2.0

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return _script("slow", chosen, seconds, seconds=self.delay_seconds)


class WatchDrop(_Fault, frozen=True):
    """All watches are closed, every `every_seconds`."""

    NAME: ClassVar[str] = "watch-drop"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.ALL_BLIND})
    MEANWHILE: ClassVar[str] = "watches were cut off"
    every_seconds: float = 1.0

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return _script("drop", chosen, seconds, every_seconds=self.every_seconds)


class GoneStorm(_Fault, frozen=True):
    """History is compacted and all watches are closed, every `every_seconds`, so that every client lists again."""

    NAME: ClassVar[str] = "gone-storm"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.ALL_BLIND, Effect.RULES_TOUCHED})
    MEANWHILE: ClassVar[str] = "watches ended with 410"
    every_seconds: float = 1.0

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return _script("gone", chosen, seconds, every_seconds=self.every_seconds)


FAULTS = (ApiDown, ApiSlow, WatchDrop, GoneStorm)
