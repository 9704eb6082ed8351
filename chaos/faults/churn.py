"""Churn: pods added and removed faster than proxies sync, and many Services at once, to reveal missed events."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.model import Chosen, Cluster, Condition, Fault, Op, PlanError, Script


class EndpointChurn(Fault, frozen=True):
    """The number of pods is raised by `pods` and lowered again, every `every_seconds`."""

    NAME: ClassVar[str] = "endpoint-churn"
    pods: int = 6
    every_seconds: float = 2.0

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if self.pods < 1 or self.every_seconds <= 0:
            raise PlanError("endpoint-churn: pods must be at least 1, and every_seconds above 0")
        return Chosen()

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        usual = len(cluster.pods)
        counts = (usual + self.pods, usual)
        turns = max(1, int(seconds / self.every_seconds))
        inject = [
            Op(round(turn * self.every_seconds, 3), "pods.scale", {"replicas": counts[turn % 2]})
            for turn in range(turns)
        ]
        return Script(
            tuple(inject),
            (Condition("cluster", "cluster", "replicas", counts[0]),),
            (Op(0, "pods.scale", {"replicas": usual}),),
            (Condition("cluster", "cluster", "replicas", usual),),
            (Condition("cluster", "cluster", "replicas", counts[(turns - 1) % 2]),),
        )


ONE_BY_ONE, PAUSE_SECONDS = 5, 0.4
"""The last Services are added with pauses that also appear between syncs, unless minSyncPeriod is longer."""


class ServiceChurn(Fault, frozen=True):
    """`services` unused Services are added, each with a slice; the heal removes all but one with and one without it.

    Most come at once, the last ones one after another.  No later event repeats any of these.
    """

    NAME: ClassVar[str] = "service-churn"
    services: int = 60

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if not ONE_BY_ONE < self.services <= 1000:
            raise PlanError(f"service-churn: {self.services} services: must be {ONE_BY_ONE + 1} to 1000")
        return Chosen()

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return Script(
            tuple(self._add(self.services - left, ONE_BY_ONE - left) for left in range(ONE_BY_ONE, -1, -1)),
            (Condition("cluster", "cluster", "spares", [self.services, self.services]),),
            (Op(0, "spares.set", {"services": 2, "slices": 1, "host": 2}),),
            (Condition("cluster", "cluster", "spares", [2, 1]),),
        )

    @staticmethod
    def _add(count: int, turn: int) -> Op:
        return Op(round(turn * PAUSE_SECONDS, 3), "spares.set", {"services": count, "slices": count})


FAULTS = (EndpointChurn, ServiceChurn)
