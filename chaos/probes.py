"""Probes for Chaos Toolkit experiments (provider module `chaos.probes`): the present health of the cluster.

None if it cannot be observed.  `configuration` is passed by Chaos Toolkit.
"""

from __future__ import annotations

from typing import Any

from chaos.session import session_of

__all__ = ["all_pods_ready", "engines_healthy", "kernels_up_to_date", "nodes_ready"]

Configuration = dict[str, Any]


def all_pods_ready(configuration: Configuration | None = None) -> bool | None:
    """The desired number of pods exists, and all are ready."""
    return session_of(configuration).stage.health()["pods"]


def nodes_ready(configuration: Configuration | None = None) -> bool | None:
    """Every node is Ready."""
    return session_of(configuration).stage.health()["nodes"]


def engines_healthy(configuration: Configuration | None = None) -> bool | None:
    """Every node's proxy answers its /healthz with 200."""
    return session_of(configuration).stage.health()["engines"]


def kernels_up_to_date(configuration: Configuration | None = None) -> bool | None:
    """Every node's kernel is up to date with the EndpointSlices."""
    return session_of(configuration).stage.health()["kernels"]
