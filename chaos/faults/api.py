"""Faults of the API server: down, slow, watches dropped, history compacted again and again (410 Gone)."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import msgspec

from chaos.model import Chosen, Cluster, Condition, Op, Script

_HEAL = (Op(0, "api.heal", {}),)
_HEALED = (Condition("api", "api", "faults", []),)


def _script(kind: str, **how: float) -> Script:
    return Script(
        (Op(0, "api.fault", {"kind": kind, **how}),), (Condition("api", "api", "faults", [kind]),), _HEAL, _HEALED
    )


class _Fault(msgspec.Struct, frozen=True):
    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen()


class ApiDown(_Fault, frozen=True):
    """Nothing listens at the API's address, and all connections to it are cut."""

    NAME: ClassVar[str] = "api-down"

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return _script("down")


class ApiSlow(_Fault, frozen=True):
    """Every new request waits `delay_seconds` for its answer; watches that are open go on."""

    NAME: ClassVar[str] = "api-slow"
    delay_seconds: float = 2.0

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return _script("slow", seconds=self.delay_seconds)


class WatchDrop(_Fault, frozen=True):
    """All watches are cut, every `every_seconds`."""

    NAME: ClassVar[str] = "watch-drop"
    every_seconds: float = 1.0

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return _script("drop", every_seconds=self.every_seconds)


class GoneStorm(_Fault, frozen=True):
    """History is compacted and all watches are cut, every `every_seconds`, so that every client lists anew."""

    NAME: ClassVar[str] = "gone-storm"
    every_seconds: float = 1.0

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return _script("gone", every_seconds=self.every_seconds)


FAULTS = (ApiDown, ApiSlow, WatchDrop, GoneStorm)
