"""Faults of a node: lost with everything on it, drained, partitioned."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.model import Chosen, Cluster, Condition, Effect, Fault, Op, Pod, Script, pick_node


def _on(cluster: Cluster, node: str) -> tuple[Pod, ...]:
    return tuple(pod for pod in cluster.pods if pod.node == node)


def _connection(node: str, up: bool) -> tuple[Op, ...]:
    # A kubelet that cannot reach the API renews no lease, which is all that the control plane observes.
    return Op(0, "node.wire", {"node": node, "up": up}), Op(0, "node.kubelet", {"node": node, "running": up})


_GONE = frozenset({Effect.PODS_DOWN, Effect.UNREACHABLE, Effect.REBALANCING, Effect.NODES_BLIND, Effect.RULES_TOUCHED})


class _Fault(Fault, frozen=True):
    node: str | None = None

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        node = pick_node(cluster, rng, self.node)
        return Chosen(_on(cluster, node), (node,))


class NodeLoss(_Fault, frozen=True):
    """The node loses power: network, kubelet, engine and pods are gone at once.  The heal restores them."""

    NAME: ClassVar[str] = "node-loss"
    EFFECTS: ClassVar[frozenset[Effect]] = _GONE

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        return Script(
            inject=(
                *_connection(node, False),
                Op(0, "engine.signal", {"node": node, "number": "SIGKILL"}),
                *(Op(0, "pod.signal", {"pod": pod.name, "number": "SIGKILL"}) for pod in chosen.pods),
            ),
            evidence=(
                Condition("node", node, "wired", False),
                Condition("node", node, "kubelet", False),
                Condition("node", node, "engine_pid", None),
            ),
            heal=(
                *(Op(0, "pod.start", {"pod": pod.name}) for pod in chosen.pods),
                Op(0, "engine.start", {"node": node}),
                *_connection(node, True),
            ),
            healed=(
                Condition("node", node, "wired", True),
                Condition("node", node, "kubelet", True),
                Condition("node", node, "engine_healthy", True),
            ),
        )


class NodeDrain(Fault, frozen=True):
    """The node is cordoned and its pods are evicted with a grace period; replacements start on other nodes."""

    NAME: ClassVar[str] = "node-drain"
    node: str | None = None
    grace_seconds: int = 5

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        node = pick_node(cluster, rng, self.node)
        pods = _on(cluster, node)
        return Chosen(pods, (node,), frozenset(pod.name for pod in pods))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        arguments = {"grace_seconds": self.grace_seconds}
        return Script(
            inject=(
                Op(0, "node.schedulable", {"node": node, "schedulable": False}),
                *(Op(0, "pod.evict", {"pod": pod.name, **arguments}) for pod in chosen.pods),
            ),
            evidence=(Condition("node", node, "schedulable", False),),
            heal=(Op(0, "node.schedulable", {"node": node, "schedulable": True}),),
            healed=(Condition("node", node, "schedulable", True),),
        )


class NodeCut(_Fault, frozen=True):
    """The node is partitioned: everything on it keeps running, unreachable, and its engine has no API."""

    NAME: ClassVar[str] = "node-cut"
    EFFECTS: ClassVar[frozenset[Effect]] = _GONE

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        return Script(
            inject=_connection(node, False),
            evidence=(Condition("node", node, "wired", False),),
            heal=_connection(node, True),
            healed=(Condition("node", node, "wired", True), Condition("node", node, "kubelet", True)),
        )


FAULTS = (NodeLoss, NodeDrain, NodeCut)
