"""Changes during a fault: pods that still serve stop being ready, and of the unused Services one is deleted, one loses
its slice and one gets another endpoint.

They lose no requests, whether rules stay unchanged or follow, and show whether a proxy catches up with missed changes.
"""

from __future__ import annotations

from random import Random

import msgspec

from chaos.model import Cluster, Condition, Op, Pod, Script, pick_pods

AGAIN = 0.6
"""The share of the fault's time after which the first pod is ready again, so that only some changes are undone."""
SPARE_SECONDS = 0.2
"""When they are deleted: after watches were closed, before a client has listed again.  They are restored only after
kernels were checked, not by the heal: otherwise a node that kept them would be correct again."""
FEWER_SPARES = Op(SPARE_SECONDS, "spares.set", {"services": 2, "slices": 1, "host": 2})


def changed_pods(cluster: Cluster, rng: Random, count: int) -> tuple[Pod, ...]:
    """The pods that stop being ready; none if none is requested."""
    return pick_pods(cluster, rng, count) if count else ()


def with_changes(script: Script, pods: tuple[Pod, ...], seconds: float) -> Script:
    """The script with those pods' probes failing from its beginning; the first passes again before the heal."""
    if not pods:
        return script
    changes = [Op(0.1, "pod.health", {"pod": pod.name, "word": "fail"}) for pod in pods]
    changes.append(FEWER_SPARES)
    if len(pods) > 1:
        changes.append(Op(round(seconds * AGAIN, 3), "pod.health", {"pod": pods[0].name, "word": "ok"}))
    return msgspec.structs.replace(
        script,
        inject=(*script.inject, *changes),
        heal=(
            *script.heal,
            *(Op(0, "pod.health", {"pod": pod.name, "word": "ok"}) for pod in pods),
        ),
        healed=(*script.healed, *(Condition("pod", pod.name, "health", "ok") for pod in pods)),
    )
