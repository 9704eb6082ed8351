"""Probes for Chaos Toolkit experiments (provider module `chaos.probes`): whether all is well now.

None where that cannot be seen.
"""

from __future__ import annotations

from chaos.session import current

__all__ = ["all_pods_ready", "engines_healthy", "kernels_up_to_date", "nodes_ready"]


def all_pods_ready() -> bool | None:
    """As many pods as are wanted are there, and all are ready."""
    return current().stage.health()["pods"]


def nodes_ready() -> bool | None:
    """Every node is Ready."""
    return current().stage.health()["nodes"]


def engines_healthy() -> bool | None:
    """Every node's proxy answers its /healthz with 200."""
    return current().stage.health()["engines"]


def kernels_up_to_date() -> bool | None:
    """Every node's kernel holds what the EndpointSlices say."""
    return current().stage.health()["kernels"]
