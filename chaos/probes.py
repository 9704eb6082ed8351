"""Probes for Chaos Toolkit experiments (provider module `chaos.probes`); each tells whether all is well now."""

from __future__ import annotations

from chaos.session import current

__all__ = ["all_pods_ready", "engines_healthy", "kernels_up_to_date", "nodes_ready"]


def all_pods_ready() -> bool:
    """As many pods as are wanted are there, and all are ready."""
    status = current().client.call("status")
    ready = [pod for pod in status["pods"] if pod["ready"] and not pod["terminating"]]
    return len(ready) == len(status["pods"]) == status["replicas"]


def nodes_ready() -> bool:
    """Every node is Ready."""
    return all(node["ready"] for node in current().client.call("status")["nodes"])


def engines_healthy() -> bool:
    """Every node's proxy answers its /healthz with 200."""
    return all(node["engine_healthy"] for node in current().client.call("status")["nodes"])


def kernels_up_to_date() -> bool:
    """Every node's kernel holds what the EndpointSlices say."""
    return current().client.call("open_questions") == 0
