"""The load requested by an experiment.  Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.lab.topology import CLIENT

EXTERNAL = ("nodeport-http", "nodeport-http-keepalive", "nodeport-tcp", "nodeport-udp", "balancer-http", "sticky-http")
INTERNAL = ("clusterip-http", "clusterip-http-keepalive", "clusterip-tcp", "clusterip-udp")
"""Flows by how they reach the Services: see `loadtests.flows`."""


class LoadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`arrivals_per_second` over all senders; `flows` by sender (`client`, `caller-N`); `shape` as `loadtests.shapes`.

    `warm_up_seconds` of load precede the first fault, `cool_down_seconds` follow the last; `timeout_seconds` applies to
    each request.
    """

    arrivals_per_second: float = 200.0
    flows: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: {CLIENT: EXTERNAL, "caller-1": INTERNAL})
    shape: dict[str, Any] = {}
    warm_up_seconds: float = 3.0
    cool_down_seconds: float = 2.0
    timeout_seconds: float = 1.0
