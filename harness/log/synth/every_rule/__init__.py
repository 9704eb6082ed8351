"""A small fixed recording in which every kind of rule exists, is added, changed and removed.

services (initial state) -> story (changes) -> the events, as a recorder writes them
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.synth import addresses
from harness.log.synth.every_rule.cluster import Cluster
from harness.log.synth.every_rule.services import populate
from harness.log.synth.every_rule.story import SCENES

RESOURCES = ("services", "endpointslices", "nodes")


def every_rule() -> tuple[Header, Iterator[Event]]:
    """Header and events, the same everywhere: nothing is random.

    The first node, node-a, is the node whose rules to compute: it has endpoints, two addresses per family,
    a zone, and properties that others lack.
    """
    header = Header(
        format=FORMAT,
        version=VERSION,
        resources=RESOURCES,
        start="2026-01-01T00:00:00Z",
        cluster={
            "name": "every-rule",
            "clusterCIDR": f"{addresses.POD_CIDR4},{addresses.POD_CIDR6}",
            "serviceCIDRs": [addresses.SERVICE_CIDR4, addresses.SERVICE_CIDR6],
        },
        generator={"name": "synth", "options": {"every_rule": True}},
    )
    cluster = Cluster()
    populate(cluster)
    # Three watches list at the same time: here the nodes' list is the last to come.
    cluster.list(RESOURCES)
    for scene in SCENES:
        scene(cluster)
    return header, iter(cluster.events)
