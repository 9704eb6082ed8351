"""UDP clients that keep their source port, by real packets in mode nftables; tests/ipvs plays the same there."""

from __future__ import annotations

import pytest

from .clients import clients
from .story import STORIES


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_flows_go_where_somebody_serves(story, kernel_namespaces):
    with clients("nftables") as them:
        story(them)
