"""What a fault is made of, as values: operations, conditions, steps.  Pure.

A fault decides in pure code what is done when and to whom; `chaos.perform` does it.  So a plan can be printed,
compared and logged before anything happens.
"""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar, Protocol

import msgspec


class PlanError(ValueError):
    """A plan that cannot be made: unknown fault or parameter, or nobody left to inject it into."""


class Op(msgspec.Struct, frozen=True):
    """One operation, `at` seconds after its step began; `name` and `arguments` are the target's (`pod.signal`)."""

    at: float
    name: str
    arguments: dict[str, Any]


class Condition(msgspec.Struct, frozen=True):
    """Something that can be looked at: `field` of a pod, node or engine in the target's status equals `value`.

    With `command`, that it exits with 0 on the node `name` instead.
    """

    kind: str
    name: str
    field: str = ""
    value: Any = None
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.command:
            return f"{self.name}: `{' '.join(self.command)}` succeeds"
        return f"{self.kind} {self.name} has {self.field} {self.value!r}"


class Script(msgspec.Struct, frozen=True):
    """What a fault does: operations in order of time, conditions by which it is seen to be in force, and the way back.

    `heal` is carried out whatever happened before; `healed` must hold after it.
    """

    inject: tuple[Op, ...]
    evidence: tuple[Condition, ...]
    heal: tuple[Op, ...] = ()
    healed: tuple[Condition, ...] = ()


class Pod(msgspec.Struct, frozen=True):
    """A pod that faults may choose."""

    name: str
    node: str
    address: str = ""


class Cluster(msgspec.Struct, frozen=True):
    """What there is to choose from, sorted by name."""

    nodes: tuple[str, ...]
    pods: tuple[Pod, ...]
    mode: str = "nftables"

    def without(self, pods: frozenset[str]) -> Cluster:
        """The same without some pods: those that an earlier step takes away for good."""
        return msgspec.structs.replace(self, pods=tuple(pod for pod in self.pods if pod.name not in pods))


class Chosen(msgspec.Struct, frozen=True):
    """Whom a fault hits; `consumed` are pods that will not exist under their names afterwards."""

    pods: tuple[Pod, ...] = ()
    nodes: tuple[str, ...] = ()
    consumed: frozenset[str] = frozenset()


class Fault(Protocol):
    """A kind of fault with its parameters: a frozen msgspec.Struct whose docstring says what it does."""

    NAME: ClassVar[str]

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        """Whom to hit; PlanError when there is nobody."""

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        """What to do to them in a step of that length."""


class Step(msgspec.Struct, frozen=True):
    """One fault of a plan, everything decided."""

    number: int
    fault: str
    parameters: dict[str, Any]
    seconds: float
    pods: tuple[str, ...]
    nodes: tuple[str, ...]
    script: Script


def pick_pods(cluster: Cluster, rng: Random, count: int, node: str | None = None) -> tuple[Pod, ...]:
    """`count` pods, of one node where named, never all there are."""
    there = [pod for pod in cluster.pods if node in (None, pod.node)]
    if count < 1 or count > len(there) or count >= len(cluster.pods):
        where = f" on {node}" if node else ""
        raise PlanError(f"{count} pods asked for; there are {len(there)}{where}, and one pod at least must be spared")
    return tuple(sorted(rng.sample(there, count), key=lambda pod: pod.name))


def pick_fraction(cluster: Cluster, rng: Random, fraction: float) -> tuple[Pod, ...]:
    """That part of all pods, one at least, never all."""
    if not 0 < fraction < 1:
        raise PlanError(f"fraction {fraction}; a number between 0 and 1 is needed")
    return pick_pods(cluster, rng, min(max(1, round(fraction * len(cluster.pods))), len(cluster.pods) - 1))


def pick_node(cluster: Cluster, rng: Random, node: str | None = None) -> str:
    """The named node, or one by chance."""
    if node is not None and node not in cluster.nodes:
        raise PlanError(f"no node {node!r}; there are: {', '.join(cluster.nodes)}")
    return node or rng.choice(cluster.nodes)
