"""Faults of a node's proxy: killed, restarted, paused, its rules flushed or damaged by another program."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.faults.unseen_changes import FEWER_SPARES, changed_pods, with_changes
from chaos.model import Chosen, Cluster, Condition, Effect, Fault, Op, PlanError, Script, pick_node
from harness.modes import MODES, mode_of
from harness.modes.mode import Mode


class _Fault(Fault, frozen=True):
    node: str | None = None
    unready: int = 0

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen(changed_pods(cluster, rng, self.unready), (pick_node(cluster, rng, self.node),))


class _Ended(_Fault, frozen=True):
    """The node's proxy ends by a signal; its rules stay.  The heal restarts it."""

    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.REBALANCING, Effect.NODES_BLIND, Effect.RULES_TOUCHED})
    SIGNAL: ClassVar[str]

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        script = Script(
            inject=(Op(0, "engine.signal", {"node": node, "number": self.SIGNAL}),),
            evidence=(Condition("node", node, "engine_pid", None),),
            heal=(Op(0, "engine.start", {"node": node}),),
            healed=(Condition("node", node, "engine_healthy", True),),
        )
        return with_changes(script, chosen.pods, seconds)


class EngineCrash(_Ended, frozen=True):
    """The node's proxy is killed (SIGKILL); its rules stay.  The heal restarts it."""

    NAME: ClassVar[str] = "engine-crash"
    MEANWHILE: ClassVar[str] = "the engine was down"
    SIGNAL: ClassVar[str] = "SIGKILL"


class EngineRestart(_Ended, frozen=True):
    """The node's proxy is shut down (SIGTERM); its rules stay.  The heal restarts it."""

    NAME: ClassVar[str] = "engine-restart"
    MEANWHILE: ClassVar[str] = "the engine restarted"
    SIGNAL: ClassVar[str] = "SIGTERM"


class EnginePause(_Fault, frozen=True):
    """The node's proxy is stopped (SIGSTOP): its rules stay unchanged, whatever happens.  Heals by SIGCONT."""

    NAME: ClassVar[str] = "engine-pause"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.REBALANCING, Effect.NODES_BLIND, Effect.RULES_TOUCHED})
    MEANWHILE: ClassVar[str] = "the engine was paused"

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        script = Script(
            inject=(Op(0, "engine.signal", {"node": node, "number": "SIGSTOP"}),),
            evidence=(Condition("node", node, "engine_stopped", True),),
            heal=(Op(0, "engine.signal", {"node": node, "number": "SIGCONT"}),),
            healed=(Condition("node", node, "engine_stopped", False),),
        )
        return with_changes(script, chosen.pods, seconds)


class _Rules(_Fault, frozen=True):
    """Another program changes the node's rules; the fault lasts until the proxy has restored them."""

    NAME: ClassVar[str]
    AFTERWARDS: ClassVar[tuple[Op, ...]] = ()

    @classmethod
    def command(cls, mode: Mode) -> str:
        """A shell command, which fails unless it takes effect; "" if the mode has no rules."""
        raise NotImplementedError  # every fault of rules has its own

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if cluster.mode not in MODES or not self.command(mode_of(cluster.mode)):
            raise PlanError(f"{self.NAME}: mode {cluster.mode} has no rules in the kernel")
        return super().choose(cluster, rng)

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        (node,) = chosen.nodes
        command = ["sh", "-c", self.command(mode_of(cluster.mode))]
        script = Script(
            inject=(Op(0, "node.run", {"node": node, "command": command}), *self.AFTERWARDS),
            evidence=(),  # the command's own
            heal=(),
            healed=(Condition("kernel", node, "differences", []),),
            lasting=(),  # it lasts until the proxy notices
        )
        return with_changes(script, chosen.pods, seconds)


class RulesFlushed(_Rules, frozen=True):
    """Another program deletes the node's rules; the fault lasts until the proxy detects it."""

    NAME: ClassVar[str] = "rules-flushed"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.RULES_GONE, Effect.RULES_TOUCHED})

    @classmethod
    def command(cls, mode: Mode) -> str:
        return mode.flush and f"for n in 1 2 3; do ({mode.flush}) 2>/dev/null && exit 0; done; exit 1"


class RulesDamaged(_Rules, frozen=True):
    """Another program deletes a node's node ports, so that its kernel rejects the proxy's next change of one.

    The fault lasts until the proxy has rewritten everything.
    """

    NAME: ClassVar[str] = "rules-damaged"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.RULES_GONE, Effect.RULES_TOUCHED})
    AFTERWARDS: ClassVar[tuple[Op, ...]] = (FEWER_SPARES,)

    @classmethod
    def command(cls, mode: Mode) -> str:
        return mode.damage


FAULTS = (EngineCrash, EngineRestart, EnginePause, RulesFlushed, RulesDamaged)
