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

    Rules are to be computed for the first node, node-a: it has endpoints, two addresses per family, a zone,
    and properties that other nodes lack.
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
    # A recorder lists three resources concurrently: here the list of Nodes arrives last.
    cluster.list(RESOURCES)
    for scene in SCENES:
        scene(cluster)
    return header, iter(cluster.events)
