"""What a lab waits for before it reports ready."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from harness.lab.supervisor import Lab


class Healthy:
    """A proxy that runs and is healthy, which a starting one becomes at an unforeseeable time."""

    running = True

    async def healthy(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("taking", "missing"),
    [
        ({"node-1"}, "nodes of the load balancer 1/2"),
        (set(), "nodes of the load balancer 0/2"),
        ({"node-1", "node-2"}, ""),
    ],
)
def test_a_lab_whose_load_balancer_leaves_a_healthy_node_out_is_not_ready(taking, missing):
    """It removes nodes that start slowly, and adds them at its next health check: all connections may move then."""
    lab = SimpleNamespace(
        api=SimpleNamespace(pods=list), kubelets={}, options=SimpleNamespace(pods=0),
        engines={"node-1": Healthy(), "node-2": Healthy()}, _balancer=SimpleNamespace(taking=taking),
    )  # fmt: skip
    assert asyncio.run(Lab._missing(lab)) == missing
