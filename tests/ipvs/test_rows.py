"""Each rule in mode ipvs: by tracer and oracle anywhere, by real packets and read-back in a virtual machine."""

from __future__ import annotations

import os

import pytest

from harness.acceptance.cases import load
from harness.acceptance.run import judge
from harness.conformance.corpus import CASES_FOLDER
from harness.conformance.corpus.rows_ipvs import ROWS
from harness.judge.oracle import Oracle
from harness.judge.oracle.packets import expected
from tests.cases.events import as_events
from tests.cases.made import case


def first_of_each_rule() -> list:
    """Rows that are the first to hold some rule: a kernel that is a process takes its time."""
    seen: set[str] = set()
    found = []
    for row in ROWS:
        ids = set(row.ids.split())
        found += [row] if ids - seen else []
        seen |= ids
    return found


DATA = CASES_FOLDER
CASES = [each for each in load(DATA) if "ipvs" in each.modes]
KERNEL_ROWS = ROWS if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else first_of_each_rule()
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.ids.split()[0]} {row.name}")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def read(row, folder):
    then = [{"ops": ops, "flows": flows} for ops, flows in row.then]
    config = {"modes": ["ipvs"], **row.config}
    made = case(row.name, row.objects, row.flows, then, row.asserts, row.first, row.last, **config)
    return made._replace(partial=True)  # what a row asserts is what it is about


def failures(verdict: dict) -> list:
    return [item for item in verdict["flows"] + verdict["asserts"] if not item["passed"]] + [verdict.get("error")]


@each_row
def test_tracer_and_oracle_agree(row, tmp_path):
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


@pytest.mark.vm
@pytest.mark.parametrize("row", KERNEL_ROWS, ids=lambda row: f"{row.ids.split()[0]} {row.name}")
def test_the_kernel_agrees(row, tmp_path, node):
    made = read(row, tmp_path)
    assert failures(judge(made, "ipvs", node.observer_of)) == [None]
    if row.asserts or KERNEL_ROWS is ROWS:
        assert [difference for family in made.families for difference in node.differences(family)] == []


@pytest.mark.vm
@each_case
def test_the_kernel_does_what_a_case_expects(case, node):
    assert failures(judge(case, "ipvs", node.observer_of)) == [None]
    assert [difference for family in case.families for difference in node.differences(family)] == []
