"""Any cluster, any packet: the modes agree, except exactly where the mode table says that they differ."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given

from harness.acceptance.run import Tracers

from .differences import DIFFERENCES, in_mode
from .look import look
from .strategies import LOCAL, clusters, packed, packets, settings_of_proxies
from .synced import synced
from .test_differential import outcome

IDS = set((Path(__file__).parents[1] / "data" / "spec-ids.txt").read_text().split())
OPEN = {"internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster", "loadBalancerSourceRanges": []}


def tracers_of(mode: str, events, wanted) -> Tracers:
    tracers = Tracers(mode, frozenset(map(packed, LOCAL)))
    synced(mode, events, wanted, tracers)
    return tracers


def opened(events):
    """The same cluster, every policy Cluster and every address open to all."""
    for kind, resource, raw in events:
        manifest = json.loads(raw)
        if resource == "services":
            manifest["spec"] |= OPEN
        yield kind, resource, json.dumps(manifest).encode()


@given(events=clusters(largest=2), wanted=settings_of_proxies)
def test_modes_differ_exactly_where_the_table_lists_it(events, wanted):
    reference, open_one = tracers_of("iptables", events, wanted), tracers_of("iptables", opened(events), wanted)
    others = {mode: tracers_of(mode, events, wanted) for mode in ("nftables", "ipvs")}
    for packet in packets(events):
        asked = look(events, wanted, packet, lambda each: outcome(open_one, each))
        for mode, tracers in others.items():
            found = outcome(tracers, packet)
            assert found == in_mode(mode, asked, outcome(reference, packet)), (mode, asked.kind, packet)


@pytest.mark.parametrize("line", DIFFERENCES, ids=lambda line: f"{line.mode} {line.ids}")
def test_the_table_names_existing_rules(line):
    assert set(line.ids.split()) <= IDS and re.match(r"CMP|LB", line.ids)
