"""Guarantees of a ready lab."""

from __future__ import annotations

import pytest

from harness.lab.launch import lab
from harness.lab.topology import BALANCER_ADDRESS, LabOptions

pytestmark = pytest.mark.xdist_group("lab")


def test_the_load_balancer_of_a_ready_lab_uses_every_node(kernel_namespaces, tmp_path):
    """Engines that start slowly are taken out of it first; a lab that reports ready has them back."""
    with lab(LabOptions(nodes=2, pods=2, mode="userspace"), tmp_path / "lab") as client:
        route = client.run(None, ["ip", "-o", "route", "show", BALANCER_ADDRESS]).stdout.decode()
        assert {node.address for node in client.status().nodes} <= set(route.split()), route
