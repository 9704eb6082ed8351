"""A connection tracking table that is nearly full."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.model import Chosen, Cluster, Condition, Effect, Fault, Op, PlanError, Script, pick_node

_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
_MAX = "/proc/sys/net/netfilter/nf_conntrack_max"


class ConntrackFull(Fault, frozen=True):
    """The node's connection tracking table is filled until only `free` entries are left."""

    NAME: ClassVar[str] = "conntrack-full"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.DROPPING, Effect.REBALANCING, Effect.NODES_BLIND})
    free: int = 200
    node: str | None = None

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if self.free < 0:
            raise PlanError(f"conntrack-full: free {self.free}: must be 0 or more")
        return Chosen(nodes=(pick_node(cluster, rng, self.node),))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        full = f"test $(cat {_COUNT}) -ge $(( $(cat {_MAX}) - {self.free} - 1000 ))"
        return Script(
            inject=(Op(0, "node.fill_conntrack", {"node": node, "free": self.free}),),
            evidence=(Condition("node", node, command=("sh", "-c", full)),),
            heal=(Op(0, "node.empty_conntrack", {"node": node}),),
            healed=(Condition("node", node, command=("sh", "-c", f"! {full}")),),
        )


FAULTS = (ConntrackFull,)
