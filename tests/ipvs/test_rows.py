"""Each rule in mode ipvs: by tracer and oracle anywhere, by real packets and read-back in user-mode Linux."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.oracle import Oracle
from harness.oracle.packets import expected
from harness.trace.cases import as_events, load
from harness.trace.run import judge

from ..cases.clusters import case
from .rows import ROWS


def first_of_each_rule() -> list:
    """Rows that are the first to hold some rule: a kernel that is a process takes its time."""
    seen: set[str] = set()
    found = []
    for row in ROWS:
        ids = set(row.ids.split())
        found += [row] if ids - seen else []
        seen |= ids
    return found


DATA = Path(__file__).parents[1] / "cases" / "data"
CASES = [each for each in load(DATA) if "ipvs" in each.modes]
KERNEL_ROWS = ROWS if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else first_of_each_rule()
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.ids.split()[0]} {row.name}")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def read(row, folder):
    then = [{"ops": ops, "flows": flows} for ops, flows in row.then]
    config = {"modes": ["ipvs"], **row.config}
    made = case(folder, row.name, row.objects, row.flows, then, row.asserts, **config)
    return made._replace(partial=True)  # what a row asserts is what it is about


def failures(verdict: dict) -> list:
    return [item for item in verdict["flows"] + verdict["asserts"] if not item["passed"]] + [verdict.get("error")]


@each_row
def test_tracer_and_oracle_say_the_same(row, tmp_path):
    made = read(row, tmp_path)
    assert failures(judge(made, "ipvs")) == [None]
    oracle, seq = Oracle(made.node, made.settings()), 1
    for stage in made.stages:
        for event in as_events(stage, seq):
            oracle.observe(event)
        seq += len(stage.events)
        found = [(f.name, expected(oracle, f.packet, "ipvs")) for f in stage.flows]
        assert found == [(f.name, f.expected) for f in stage.flows]


@each_case
def test_the_tracer_finds_what_a_case_expects(case):
    assert failures(judge(case, "ipvs")) == [None]


@pytest.mark.uml
@pytest.mark.parametrize("row", KERNEL_ROWS, ids=lambda row: f"{row.ids.split()[0]} {row.name}")
def test_the_kernel_does_so(row, tmp_path, node):
    made = read(row, tmp_path)
    assert failures(judge(made, "ipvs", node.witness_of)) == [None]
    if row.asserts or KERNEL_ROWS is ROWS:
        assert [difference for family in made.families for difference in node.differences(family)] == []


@pytest.mark.uml
@each_case
def test_the_kernel_does_what_a_case_expects(case, node):
    assert failures(judge(case, "ipvs", node.witness_of)) == [None]
    assert [difference for family in case.families for difference in node.differences(family)] == []
