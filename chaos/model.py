"""The parts of a fault as values: operations, conditions, steps.  Pure.

A fault decides in pure code which operation happens when and to which target; `chaos.perform` carries it out.  So a
plan can be printed, compared and logged before anything happens.
"""

from __future__ import annotations

from enum import Enum
from random import Random
from typing import Any, ClassVar

import msgspec

from harness.wording import plural


class PlanError(ValueError):
    """A plan that cannot be made: unknown fault or parameter, or no target left for it."""


class Op(msgspec.Struct, frozen=True):
    """One operation, `at` seconds after its step began; `name` and `arguments` are the target's (`pod.signal`)."""

    at: float
    name: str
    arguments: dict[str, Any]


class Condition(msgspec.Struct, frozen=True):
    """An observable condition: `field` of a pod, node or engine in the target's status equals `value`.

    With `command`: the command exits with 0 on the node `name`.
    """

    kind: str
    name: str
    field: str = ""
    value: object = None
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.command:
            return f"{self.name}: `{' '.join(self.command)}` succeeds"
        return f"{self.kind} {self.name} has {self.field} {self.value!r}"


class Script(msgspec.Struct, frozen=True):
    """A fault's operations in order of time, the evidence that it is in force, and its heal.

    `heal` is carried out whatever happened before; `healed` must hold after it.  `lasting` must hold again just before
    the heal: the evidence, unless the script itself changes that state.
    """

    inject: tuple[Op, ...]
    evidence: tuple[Condition, ...]
    heal: tuple[Op, ...] = ()
    healed: tuple[Condition, ...] = ()
    lasting: tuple[Condition, ...] | None = None

    @property
    def at_the_end(self) -> tuple[Condition, ...]:
        """The conditions that must hold just before the heal."""
        return self.evidence if self.lasting is None else self.lasting


class Pod(msgspec.Struct, frozen=True):
    """A pod that faults may choose."""

    name: str
    node: str
    address: str = ""


class Cluster(msgspec.Struct, frozen=True):
    """The possible targets, sorted by name."""

    nodes: tuple[str, ...]
    pods: tuple[Pod, ...]
    mode: str = "nftables"

    def without(self, pods: frozenset[str]) -> Cluster:
        """The targets without pods that an earlier step removes permanently."""
        return msgspec.structs.replace(self, pods=tuple(pod for pod in self.pods if pod.name not in pods))


class Chosen(msgspec.Struct, frozen=True):
    """The targets of a fault; `consumed` are pods whose names no longer exist afterwards."""

    pods: tuple[Pod, ...] = ()
    nodes: tuple[str, ...] = ()
    consumed: frozenset[str] = frozenset()


class Effect(Enum):
    """An effect of a fault that makes losses or delays unavoidable; the verdict attributes them to it."""

    PODS_DOWN = "its pods cannot answer"
    ONE_DEATH = "its pods die once, and stay down until it heals"
    UNREACHABLE = "its nodes are unreachable, and cannot reach others"
    DROPPING = "its nodes drop packets silently"
    RULES_GONE = "its nodes have no rules, or not all"
    REBALANCING = "the load balancer removes and re-adds nodes, and moves established connections"
    NODES_BLIND = "the engines of its nodes receive no changes"
    ALL_BLIND = "no engine receives changes"
    RULES_TOUCHED = "it writes rules itself, or makes an engine restart or relist"


class Fault(msgspec.Struct, frozen=True):
    """A kind of fault with its parameters; its docstring is its description.

    `MEANWHILE` is set for faults that should have no effect on clients: the condition that held.
    """

    NAME: ClassVar[str]
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset()
    MEANWHILE: ClassVar[str] = ""
    NEEDS_BROKER: ClassVar[bool] = False

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        """Choose the targets; PlanError if there is none."""
        raise NotImplementedError  # every fault has its own

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        """The script for these targets in a step of that duration."""
        raise NotImplementedError  # every fault has its own


class PlannedFault(msgspec.Struct, frozen=True):
    """One fault of a plan, completely determined; an `optional` one is skipped, and reported, if not supported."""

    number: int
    fault: str
    parameters: dict[str, Any]
    seconds: float
    pods: tuple[str, ...]
    nodes: tuple[str, ...]
    script: Script
    optional: bool = False


def pick_pods(cluster: Cluster, rng: Random, count: int, node: str | None = None) -> tuple[Pod, ...]:
    """`count` pods, of one node if given, but never all pods."""
    there = [pod for pod in cluster.pods if node in (None, pod.node)]
    if count < 1 or count > len(there) or count >= len(cluster.pods):
        where = f" on {node}" if node else ""
        raise PlanError(
            f"{plural(count, 'pod')} requested; there are {len(there)}{where}, and at least one pod must be spared"
        )
    return tuple(sorted(rng.sample(there, count), key=lambda pod: pod.name))


def pick_fraction(cluster: Cluster, rng: Random, fraction: float) -> tuple[Pod, ...]:
    """At most that fraction of all pods, but at least one, and never all."""
    if not 0 < fraction < 1:
        raise PlanError(f"fraction {fraction}: must be between 0 and 1")
    return pick_pods(cluster, rng, min(max(1, int(fraction * len(cluster.pods) + 1e-9)), len(cluster.pods) - 1))


def pick_node(cluster: Cluster, rng: Random, node: str | None = None) -> str:
    """The named node, or a random one."""
    if node is not None and node not in cluster.nodes:
        raise PlanError(f"no node {node!r}; there are: {', '.join(cluster.nodes)}")
    return node or rng.choice(cluster.nodes)
