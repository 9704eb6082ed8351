"""The corpus: large enough, no case twice, and the oracle agrees about every packet."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.conformance.entry import DRAIN, STAND, chosen, corpus
from harness.judge.oracle import Oracle
from harness.judge.oracle.packets import expected
from harness.log.events import Event

ENTRIES = corpus()
IDS = set(Path("tests/data/spec-ids.txt").read_text().split())
AREAS = {each.partition("-")[0] for each in IDS}
NEWEST = (1, 37)


@pytest.mark.parametrize(("mode", "least"), [("iptables", 350), ("nftables", 340), ("ipvs", 40)])
def test_there_are_enough_cases_for_a_mode(mode, least):
    held = [entry for entry in ENTRIES if not entry.applies(mode, NEWEST)]
    assert len(held) >= least
    protocols = {f.packet.protocol for entry in held for step in entry.steps for f in step.flows}
    families = {len(f.packet.destination) for entry in held for step in entry.steps for f in step.flows}
    assert (protocols, families) == ({6, 17, 132}, {4, 16})


def test_every_case_has_a_unique_id_and_existing_rules():
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)
    assert {rule for entry in ENTRIES for rule in entry.rules} <= IDS | AREAS


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs"])
def test_the_oracle_agrees_with_every_packet(mode):
    wrong = []
    for entry in ENTRIES:
        if mode not in entry.case.modes:
            continue
        oracle = Oracle(entry.case.node, entry.case.settings())
        for number, step in enumerate(entry.steps):
            for kind, resource, manifest in step.events:
                oracle.observe(Event(1, 0, kind, resource, msgspec.Raw(manifest)))
            for flow in step.flows:
                outcome = expected(oracle, flow.packet, mode)
                if outcome != flow.expected:
                    wrong.append((entry.id, number, flow.name, flow.expected, outcome))
    assert wrong == []


def test_cases_are_selected_by_id_or_rule():
    some = chosen(ENTRIES, ["HAIR-01"])
    assert len(some) > 1 and all("HAIR-01" in entry.rules for entry in some)
    assert [entry.id for entry in chosen(ENTRIES, [some[0].id])] == [some[0].id]
    with pytest.raises(LookupError, match="'HAIR-99' is neither a case nor a rule"):
        chosen(ENTRIES, ["HAIR-99"])


def test_standing_and_draining_flows_are_separate():
    names = [flow.name for entry in ENTRIES for step in entry.steps for flow in step.flows]
    assert not [name for name in names if name.startswith((STAND, DRAIN))]
    assert sum(bool(step.standing) for entry in ENTRIES for step in entry.steps) >= 10
    assert sum(bool(step.drains) for entry in ENTRIES for step in entry.steps) == 4
