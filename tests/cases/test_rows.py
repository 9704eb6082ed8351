"""Each rule of the specification, in each mode: checked by tracer, oracle and real packets."""

from __future__ import annotations

import pytest

from harness.acceptance.observer import open_observer
from harness.acceptance.run import judge
from harness.conformance.corpus import rows_intake
from harness.conformance.corpus.row import Row
from harness.conformance.corpus.rows import ROWS
from harness.judge.oracle import Oracle
from harness.judge.oracle.packets import expected
from tests.cases.made import case

from .events import as_events


def read(row: Row, folder):
    then = [{"ops": ops, "flows": flows} for ops, flows in row.then]
    return case(row.name, row.objects, row.flows, then, row.asserts, row.first, row.last, **row.config)


def failures(verdict: dict) -> list:
    return [item for item in verdict["flows"] + verdict["asserts"] if not item["passed"]] + [verdict.get("error")]


def told_apart(row: Row, mode: str) -> bool:
    """Objects have the same meaning in every mode, so packets through one kernel program suffice."""
    return mode == "nftables" or not (row in rows_intake.ROWS or row.ids.startswith(("TERM", "TOPO")))


ALL = [(mode, row) for row in ROWS for mode in row.modes]
BY_PACKETS = [(mode, row) for mode, row in ALL if told_apart(row, mode)]


def each(pairs):
    named = [pytest.param(mode, row, id=f"{row.ids.split()[0]} {row.name} in {mode}") for mode, row in pairs]
    return pytest.mark.parametrize(("mode", "row"), named)


@each(ALL)
def test_tracer_and_oracle_agree(mode, row, tmp_path):
    read_back = read(row, tmp_path)
    assert failures(judge(read_back, mode)) == [None]
    oracle, seq = Oracle(read_back.node, read_back.settings()), 1
    for stage in read_back.stages:
        for event in as_events(stage, seq):
            oracle.observe(event)
        seq += len(stage.events)
        assert [(f.name, expected(oracle, f.packet, mode)) for f in stage.flows] == [
            (f.name, f.expected) for f in stage.flows
        ]


@each(BY_PACKETS)
def test_the_kernel_agrees(mode, row, tmp_path, kernel_namespaces):
    assert failures(judge(read(row, tmp_path), mode, open_observer)) == [None]
