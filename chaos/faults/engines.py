"""Faults of a node's proxy: ended, paused, its rules flushed behind its back."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import msgspec

from chaos.model import Chosen, Cluster, Condition, Op, PlanError, Script, pick_node

FLUSH = {
    "nftables": ("nft", "delete", "table", "ip", "kube-proxy"),
    "iptables": ("sh", "-c", "for t in nat filter mangle; do iptables -t $t -F && iptables -t $t -X || exit 1; done"),
    "ipvs": ("ipvsadm", "-C"),
}
_GONE = {
    "nftables": ("sh", "-c", "! nft list table ip kube-proxy 2>/dev/null"),
    "iptables": ("sh", "-c", "! iptables -t nat -S KUBE-SERVICES 2>/dev/null"),
    "ipvs": ("sh", "-c", "! ipvsadm -Sn | grep -q ."),
}
_BACK = {
    "nftables": ("nft", "-t", "list", "table", "ip", "kube-proxy"),
    "iptables": ("iptables", "-t", "nat", "-S", "KUBE-SERVICES"),
    "ipvs": ("sh", "-c", "ipvsadm -Sn | grep -q ."),
}


class _Fault(msgspec.Struct, frozen=True):
    node: str | None = None

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen(nodes=(pick_node(cluster, rng, self.node),))


class EngineCrash(_Fault, frozen=True):
    """The node's proxy ends at once (SIGKILL), its rules stay; started anew when it heals."""

    NAME: ClassVar[str] = "engine-crash"

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        return Script(
            inject=(Op(0, "engine.signal", {"node": node, "number": "SIGKILL"}),),
            evidence=(Condition("node", node, "engine_pid", None),),
            heal=(Op(0, "engine.start", {"node": node}),),
            healed=(Condition("node", node, "engine_healthy", True),),
        )


class EnginePause(_Fault, frozen=True):
    """The node's proxy stops (SIGSTOP): its rules stay as they are, whatever happens.  Heals by SIGCONT."""

    NAME: ClassVar[str] = "engine-pause"

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        return Script(
            inject=(Op(0, "engine.signal", {"node": node, "number": "SIGSTOP"}),),
            evidence=(Condition("node", node, "engine_stopped", True),),
            heal=(Op(0, "engine.signal", {"node": node, "number": "SIGCONT"}),),
            healed=(Condition("node", node, "engine_stopped", False),),
        )


class RulesFlushed(_Fault, frozen=True):
    """Somebody deletes the node's rules behind its proxy's back.  Heals by starting the proxy anew."""

    NAME: ClassVar[str] = "rules-flushed"

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if cluster.mode not in FLUSH:
            raise PlanError(f"rules-flushed: mode {cluster.mode} has no rules in the kernel")
        return super().choose(cluster, rng)

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        return Script(
            inject=(Op(0, "node.run", {"node": node, "command": list(FLUSH[cluster.mode])}),),
            evidence=(Condition("node", node, command=_GONE[cluster.mode]),),
            heal=(
                Op(0, "engine.signal", {"node": node, "number": "SIGTERM"}),
                Op(0.5, "engine.start", {"node": node}),
            ),
            healed=(
                Condition("node", node, "engine_healthy", True),
                Condition("node", node, command=_BACK[cluster.mode]),
            ),
        )


FAULTS = (EngineCrash, EnginePause, RulesFlushed)
