"""Faults of the network between nodes: packet loss, packet delay."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.model import Chosen, Cluster, Condition, Effect, Fault, Op, PlanError, Script, pick_node

_TABLE = ("nft", "-t", "list", "table", "inet", "chaos")


class PacketLoss(Fault, frozen=True):
    """The node drops `percent` of the packets that it receives."""

    NAME: ClassVar[str] = "packet-loss"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset(
        {Effect.DROPPING, Effect.REBALANCING, Effect.NODES_BLIND, Effect.RULES_TOUCHED}
    )
    percent: int = 10
    node: str | None = None

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if not 1 <= self.percent <= 100:
            raise PlanError(f"packet-loss: percent {self.percent}: must be 1 to 100")
        return Chosen(nodes=(pick_node(cluster, rng, self.node),))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        # Before connection tracking, as if lost on the wire; the node's loopback is not affected.
        rule = f"iifname != lo numgen random mod 100 < {self.percent} drop;"
        hook = "chain loss { type filter hook prerouting priority -500; " + rule + " }"
        return Script(
            inject=(Op(0, "node.run", {"node": node, "command": ["nft", "table inet chaos { " + hook + "; }"]}),),
            evidence=(Condition("node", node, command=_TABLE),),
            heal=(Op(0, "node.run", {"node": node, "command": ["nft", "delete table inet chaos"]}),),
            healed=(Condition("node", node, command=("sh", "-c", f"! {' '.join(_TABLE)} 2>/dev/null")),),
        )


class PacketDelay(Fault, frozen=True):
    """Packets from the node to others are delayed by `milliseconds`; needs a kernel with netem."""

    NAME: ClassVar[str] = "packet-delay"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.NODES_BLIND})
    milliseconds: int = 50
    node: str | None = None

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen(nodes=(pick_node(cluster, rng, self.node),))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        qdisc = ["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{self.milliseconds}ms"]
        there = "tc qdisc show dev eth0 | grep -q netem"
        return Script(
            inject=(Op(0, "node.run", {"node": node, "command": qdisc}),),
            evidence=(Condition("node", node, command=("sh", "-c", there)),),
            heal=(
                Op(0, "node.run", {"node": node, "command": ["sh", "-c", f"! {there} || tc qdisc del dev eth0 root"]}),
            ),
            healed=(Condition("node", node, command=("sh", "-c", f"! {there}")),),
        )


FAULTS = (PacketLoss, PacketDelay)
