"""Faults of a pod's process: killed, hung, terminated, crash-looping, slow to start."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.model import Chosen, Cluster, Condition, Effect, Fault, Op, Pod, Script, pick_pods


def _running(pod: Pod, value: bool) -> Condition:
    return Condition("pod", pod.name, "running", value)


class _Fault(Fault, frozen=True):
    pods: int = 1
    node: str | None = None

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen(pick_pods(cluster, rng, self.pods, self.node))


class PodKill(_Fault, frozen=True):
    """The pod's process is killed (SIGKILL); only its readiness probe detects it.  The heal restarts it."""

    NAME: ClassVar[str] = "pod-kill"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.PODS_DOWN, Effect.ONE_DEATH})

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return Script(
            inject=tuple(Op(0, "pod.signal", {"pod": pod.name, "number": "SIGKILL"}) for pod in chosen.pods),
            evidence=tuple(_running(pod, False) for pod in chosen.pods),
            heal=tuple(Op(0, "pod.start", {"pod": pod.name}) for pod in chosen.pods),
            healed=tuple(_running(pod, True) for pod in chosen.pods),
        )


class PodTerminate(Fault, frozen=True):
    """The pod is deleted: its endpoint terminates while it drains, and a replacement starts elsewhere.

    With `evict` it is evicted instead, which a PodDisruptionBudget of a real cluster may delay.
    """

    NAME: ClassVar[str] = "pod-terminate"
    pods: int = 1
    node: str | None = None
    grace_seconds: int = 5
    evict: bool = False

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        pods = pick_pods(cluster, rng, self.pods, self.node)
        return Chosen(pods, consumed=frozenset(pod.name for pod in pods))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        how = "pod.evict" if self.evict else "pod.delete"
        deletions = [Op(0, how, {"pod": pod.name, "grace_seconds": self.grace_seconds}) for pod in chosen.pods]
        evidence = tuple(Condition("pod", pod.name, "terminating", True) for pod in chosen.pods)
        return Script(tuple(deletions), evidence, lasting=())  # a deletion cannot be undone


class PodHang(_Fault, frozen=True):
    """The pod's process is stopped (SIGSTOP): connections open, but are never answered.  Heals by SIGCONT."""

    NAME: ClassVar[str] = "pod-hang"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.PODS_DOWN, Effect.ONE_DEATH})

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        return Script(
            inject=tuple(Op(0, "pod.signal", {"pod": pod.name, "number": "SIGSTOP"}) for pod in chosen.pods),
            evidence=tuple(Condition("pod", pod.name, "stopped", True) for pod in chosen.pods),
            heal=tuple(Op(0, "pod.signal", {"pod": pod.name, "number": "SIGCONT"}) for pod in chosen.pods),
            healed=tuple(Condition("pod", pod.name, "stopped", False) for pod in chosen.pods),
        )


class CrashLoop(Fault, frozen=True):
    """The pod's process crashes repeatedly: it runs for `up_seconds`, then is down for `down_seconds`."""

    NAME: ClassVar[str] = "crash-loop"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.PODS_DOWN})
    pods: int = 1
    up_seconds: float = 1.5
    down_seconds: float = 1.0

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen(pick_pods(cluster, rng, self.pods))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        cycle = self.up_seconds + self.down_seconds
        rounds = max(1, int(seconds / cycle))
        inject = []
        for turn in range(rounds):
            for pod in chosen.pods:
                inject.append(Op(turn * cycle, "pod.signal", {"pod": pod.name, "number": "SIGKILL"}))
                if turn < rounds - 1:
                    inject.append(Op(turn * cycle + self.down_seconds, "pod.start", {"pod": pod.name}))
        return Script(
            inject=tuple(sorted(inject, key=lambda op: op.at)),
            evidence=tuple(_running(pod, False) for pod in chosen.pods),
            heal=tuple(Op(0, "pod.start", {"pod": pod.name}) for pod in chosen.pods),
            healed=tuple(_running(pod, True) for pod in chosen.pods),
        )


class SlowStart(Fault, frozen=True):
    """The pod's process is restarted and needs `warm_up_seconds` before its probe passes."""

    NAME: ClassVar[str] = "slow-start"
    EFFECTS: ClassVar[frozenset[Effect]] = frozenset({Effect.PODS_DOWN})
    pods: int = 1
    warm_up_seconds: float = 3.0

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen(pick_pods(cluster, rng, self.pods))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        inject = []
        for pod in chosen.pods:
            inject += [
                Op(0, "pod.health", {"pod": pod.name, "word": "fail"}),
                Op(0, "pod.signal", {"pod": pod.name, "number": "SIGKILL"}),
                Op(0.2, "pod.start", {"pod": pod.name}),
                Op(0.2 + self.warm_up_seconds, "pod.health", {"pod": pod.name, "word": "ok"}),
            ]
        return Script(
            inject=tuple(sorted(inject, key=lambda op: op.at)),
            evidence=tuple(Condition("pod", pod.name, "health", "fail") for pod in chosen.pods),
            heal=tuple(
                op
                for pod in chosen.pods
                for op in (
                    Op(0, "pod.health", {"pod": pod.name, "word": "ok"}),
                    Op(0, "pod.start", {"pod": pod.name}),
                )
            ),
            healed=tuple(_running(pod, True) for pod in chosen.pods),
            lasting=tuple(_running(pod, True) for pod in chosen.pods),
        )


FAULTS = (PodKill, PodTerminate, PodHang, CrashLoop, SlowStart)
