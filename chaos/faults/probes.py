"""Faults of readiness: probes that flap or time out while the pods keep serving."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from chaos.model import Chosen, Cluster, Condition, Fault, Op, PlanError, Script, pick_fraction


def _well(chosen: Chosen) -> tuple[tuple[Op, ...], tuple[Condition, ...]]:
    return (
        tuple(Op(0, "pod.health", {"pod": pod.name, "word": "ok"}) for pod in chosen.pods),
        tuple(Condition("pod", pod.name, "health", "ok") for pod in chosen.pods),
    )


class ReadinessFlap(Fault, frozen=True):
    """A fraction of the pods alternately fails and passes its probe, each for `period_seconds`.

    `jitter` (0 to 1) shifts every change by up to that share of the period; with `correlated` all of them flap
    together, otherwise each begins at a random time.
    """

    NAME: ClassVar[str] = "readiness-flap"
    fraction: float = 0.3
    period_seconds: float = 4.0
    jitter: float = 0.1
    correlated: bool = False

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        if self.period_seconds <= 0 or not 0 <= self.jitter <= 1:
            raise PlanError("readiness-flap: period_seconds must be above 0, and jitter from 0 to 1")
        return Chosen(pick_fraction(cluster, rng, self.fraction))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        inject = []
        for pod in chosen.pods:
            at, word = 0.0 if self.correlated else round(rng.uniform(0, self.period_seconds), 3), "fail"
            while at < seconds:
                inject.append(Op(at, "pod.health", {"pod": pod.name, "word": word}))
                word = "ok" if word == "fail" else "fail"
                shift = rng.uniform(-self.jitter, self.jitter) * self.period_seconds
                at = round(at + max(0.05, self.period_seconds + (0 if self.correlated else shift)), 3)
        if not inject:
            raise PlanError(f"readiness-flap: nothing flaps in {seconds:g} s; use a shorter period_seconds")
        inject.sort(key=lambda op: op.at)
        heal, healed = _well(chosen)
        evidence = (Condition("pod", inject[0].arguments["pod"], "health", "fail"),)
        last = {op.arguments["pod"]: op.arguments["word"] for op in inject}
        lasting = tuple(Condition("pod", pod, "health", word) for pod, word in last.items())
        return Script(tuple(inject), evidence, heal, healed, lasting)


class ProbeTimeout(Fault, frozen=True):
    """A fraction of the pods does not answer its probe in time, but serves all other requests."""

    NAME: ClassVar[str] = "probe-timeout"
    fraction: float = 0.3

    def choose(self, cluster: Cluster, rng: Random) -> Chosen:
        return Chosen(pick_fraction(cluster, rng, self.fraction))

    def script(self, chosen: Chosen, seconds: float, rng: Random, cluster: Cluster) -> Script:
        heal, healed = _well(chosen)
        return Script(
            tuple(Op(0, "pod.health", {"pod": pod.name, "word": "hang"}) for pod in chosen.pods),
            tuple(Condition("pod", pod.name, "health", "hang") for pod in chosen.pods),
            heal,
            healed,
        )


FAULTS = (ReadinessFlap, ProbeTimeout)
