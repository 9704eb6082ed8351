"""Probes for Chaos Toolkit experiments (provider module `chaos.probes`): the present health of the cluster.

None if it cannot be observed.
"""

from __future__ import annotations

from chaos.session import current

__all__ = ["all_pods_ready", "engines_healthy", "kernels_up_to_date", "nodes_ready"]


def all_pods_ready() -> bool | None:
    """The desired number of pods exists, and all are ready."""
    return current().stage.health()["pods"]


def nodes_ready() -> bool | None:
    """Every node is Ready."""
    return current().stage.health()["nodes"]


def engines_healthy() -> bool | None:
    """Every node's proxy answers its /healthz with 200."""
    return current().stage.health()["engines"]


def kernels_up_to_date() -> bool | None:
    """Every node's kernel is up to date with the EndpointSlices."""
    return current().stage.health()["kernels"]
