"""Faults of the event log's Kafka broker: the cluster goes on, its history must not be lost."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import msgspec

from chaos.model import Chosen, Cluster, Condition, Op, Script


class BrokerDown(msgspec.Struct, frozen=True):
    """The broker that the event log goes to is killed; events are kept until it is back."""

    NAME: ClassVar[str] = "broker-down"

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen()

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return Script(
            (Op(0, "broker.kill", {}),),
            (Condition("broker", "broker", "up", False),),
            (Op(0, "broker.start", {}),),
            (Condition("broker", "broker", "up", True),),
        )


FAULTS = (BrokerDown,)
