"""A client that keeps its source port, in mode ipvs, by real packets in a virtual machine (CT-08)."""

from __future__ import annotations

import pytest

from ..conntrack.clients import clients
from ..conntrack.story import a_client_leaves_an_endpoint_that_is_gone


@pytest.mark.vm
def test_flows_reach_serving_endpoints():
    with clients("ipvs") as them:
        a_client_leaves_an_endpoint_that_is_gone(them, counted=False)
