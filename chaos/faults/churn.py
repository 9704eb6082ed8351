"""Storms of endpoints: pods come and go faster than proxies may follow."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import msgspec

from chaos.model import Chosen, Cluster, Condition, Op, PlanError, Script


class EndpointChurn(msgspec.Struct, frozen=True):
    """The number of pods goes up by `pods` and back, every `every_seconds`."""

    NAME: ClassVar[str] = "endpoint-churn"
    pods: int = 6
    every_seconds: float = 2.0

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if self.pods < 1 or self.every_seconds <= 0:
            raise PlanError("endpoint-churn: pods from 1 on and every_seconds above 0 are needed")
        return Chosen()

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        usual = len(cluster.pods)
        counts = (usual + self.pods, usual)
        inject = [
            Op(round(turn * self.every_seconds, 3), "pods.scale", {"replicas": counts[turn % 2]})
            for turn in range(max(1, int(seconds / self.every_seconds)))
        ]
        return Script(
            tuple(inject),
            (Condition("cluster", "cluster", "replicas", counts[0]),),
            (Op(0, "pods.scale", {"replicas": usual}),),
            (Condition("cluster", "cluster", "replicas", usual),),
        )


FAULTS = (EndpointChurn,)
