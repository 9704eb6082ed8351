"""Defaults by version, and that a setting overrides them (VER-01, VER-02)."""

from __future__ import annotations

import pytest

from engine.config import NEWEST, ProxyConfig

ON_SINCE = [
    ("LoadBalancerIPMode", (1, 29), (1, 30)),
    ("KubeProxyDrainingTerminatingNodes", (1, 29), (1, 30)),
    ("TopologyAwareHints", (1, 23), (1, 30)),
    ("NFTablesProxyMode", (1, 30), (1, 31)),
    ("ServiceTrafficDistribution", (1, 30), (1, 31)),
    ("MultiCIDRServiceAllocator", (1, 30), (1, 33)),
    ("PreferSameTrafficDistribution", (1, 33), (1, 34)),
]


@pytest.mark.parametrize(("gate", "off", "on"), ON_SINCE)
def test_a_gate_is_on_from_its_version_unless_it_is_set(gate, off, on):
    by_version = [ProxyConfig(version=version).gate(gate) for version in (off, on, NEWEST)]
    assert by_version == [False, True, True]
    assert [ProxyConfig(version=off, feature_gates={gate: value}).gate(gate) for value in (True, False)] == [
        True,
        False,
    ]
    assert ProxyConfig(version=on, feature_gates={gate: False}).gate(gate) is False
