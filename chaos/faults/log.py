"""Faults of the event log's Kafka broker: the cluster keeps working, and its history must not be lost."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.model import Chosen, Cluster, Condition, Fault, Op, Script


class BrokerDown(Fault, frozen=True):
    """The event log's broker is killed; events are kept until it is back."""

    NAME: ClassVar[str] = "broker-down"
    MEANWHILE: ClassVar[str] = "the broker was down"
    NEEDS_BROKER: ClassVar[bool] = True

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
