"""UDP clients that keep their source port, by real packets in nftables and iptables; tests/ipvs plays a part there."""

from __future__ import annotations

import pytest

from .clients import clients
from .story import STORIES


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_flows_reach_serving_endpoints(story, mode, kernel_namespaces):
    with clients(mode) as them:
        story(them)
