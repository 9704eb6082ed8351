"""The judge detects every changed option, weight and sysctl of mode ipvs."""

from __future__ import annotations

import pytest

from harness.judge.readback.ipvs_judge import judge
from harness.modes import ipvs

from .held import RICH, program

pytestmark = pytest.mark.xdist_group("check")


@pytest.fixture(scope="module")
def remembered():
    return program(ipvs.memory(), "ipvs", RICH)


@pytest.mark.parametrize(
    ("old", "new"),
    [("-s rr", "-s wrr"), ("-p ", "-p 1"), ("-s rr", "-s rr -M 255.255.255.0"), ("-s rr", "-s rr -b flag-1")],
)
def test_changed_options_of_virtual_servers_are_detected(remembered, old, new):
    held, expected, settings = remembered.view.state(4), remembered.expected[4], remembered.settings
    fitting = [server for server, text in held.read.options.items() if old in text]
    assert fitting
    for server in fitting:
        before = held.read.options[server]
        held.read.options[server] = before.replace(old, new)
        if any(held.read.servers[server].values()):  # a server without destinations keeps nobody
            assert judge(4, held, expected, settings).differences, server
        held.read.options[server] = before


def test_changed_weights_and_forwarding_methods_are_detected(remembered):
    held, expected, settings = remembered.view.state(4), remembered.expected[4], remembered.settings
    weights = next(weights for weights in held.read.servers.values() if len(weights) > 1)
    weights[next(iter(weights))] = 2
    assert any("weights [1, " in line for line in judge(4, held, expected, settings).differences)
    weights[next(iter(weights))] = 1
    held.read.otherwise.append("-a -t 10.96.0.1:80 -r 10.0.0.1:80 -g -w 1")
    assert any("-g -w 1" in line for line in judge(4, held, expected, settings).differences)


def test_changed_sysctls_are_detected(remembered):
    held = remembered.view.state(4)._replace(sysctls={"net.ipv4.vs.conntrack": "0", "net.ipv4.ip_forward": "1"})
    found = judge(4, held, remembered.expected[4], remembered.settings).differences
    assert found[-3:] == [
        "sysctl net.ipv4.vs.conntrack is 0, expected 1",
        "sysctl net.ipv4.vs.expire_nodest_conn is absent, expected 1",
        "sysctl net.ipv4.vs.expire_quiescent_template is absent, expected 1",
    ]
