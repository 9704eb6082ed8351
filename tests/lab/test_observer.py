"""A node's convergence is timed by its kernel's notifications, not by reading its rules, however large."""

from __future__ import annotations

import pytest

from harness.lab.answers import Observation
from harness.lab.launch import lab
from harness.lab.topology import LabOptions
from tests.waiting import until as eventually

pytestmark = pytest.mark.xdist_group("lab")


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_a_change_is_timed_by_its_transaction(kernel_namespaces, tmp_path, mode):
    options = LabOptions(nodes=2, pods=4, mode=mode, failure_threshold=1, background_services=300)
    with lab(options, tmp_path / "lab") as client:
        since = client.status().seconds
        pod = client.status().pods[0]
        client.perform("pod.health", pod=pod.name, word="fail")
        found = eventually(lambda: answered(client, since, pod.address, False))
        client.perform("pod.health", pod=pod.name, word="ok")
        found += eventually(lambda: answered(client, since, pod.address, True))
        transactions = client.transactions()
    for observation in found:
        assert observation.source == "kernel notification"
        # The very time of a transaction, or at once where the rules said so already.
        families = transactions[observation.node]
        moments = [*families["IPv4"], *families["IPv6"], observation.asked]
        assert observation.seen in moments, observation
        assert observation.seen > observation.asked, "the slices change before any node can"


def answered(client, since: float, address: str, wanted: bool) -> list[Observation] | None:
    reported = client.observations(since)
    found = [o for o in reported if o.address == address and o.wanted is wanted and o.seen is not None]
    return found if len(found) == 2 else None
