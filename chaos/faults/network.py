"""Faults of the network between nodes: packets lost, packets late."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import msgspec

from chaos.model import Chosen, Cluster, Condition, Op, PlanError, Script, pick_node

_TABLE = ("nft", "-t", "list", "table", "inet", "chaos")


class PacketLoss(msgspec.Struct, frozen=True):
    """The node loses `percent` of the packets that reach it."""

    NAME: ClassVar[str] = "packet-loss"
    percent: int = 10
    node: str | None = None

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if not 1 <= self.percent <= 100:
            raise PlanError(f"packet-loss: percent {self.percent}; 1 to 100 is needed")
        return Chosen(nodes=(pick_node(cluster, rng, self.node),))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        # Before connection tracking, as a wire would lose them; the node's own loopback stays whole.
        rule = f"iifname != lo numgen random mod 100 < {self.percent} drop;"
        hook = "chain loss { type filter hook prerouting priority -500; " + rule + " }"
        return Script(
            inject=(Op(0, "node.run", {"node": node, "command": ["nft", "table inet chaos { " + hook + "; }"]}),),
            evidence=(Condition("node", node, command=_TABLE),),
            heal=(Op(0, "node.run", {"node": node, "command": ["nft", "delete table inet chaos"]}),),
            healed=(Condition("node", node, command=("sh", "-c", f"! {' '.join(_TABLE)} 2>/dev/null")),),
        )


class PacketDelay(msgspec.Struct, frozen=True):
    """What the node sends to others is `milliseconds` late; needs a kernel with netem."""

    NAME: ClassVar[str] = "packet-delay"
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
