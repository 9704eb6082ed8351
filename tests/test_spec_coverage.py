"""Every rule of the specification has a test that holds it, or a reason why none does."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cases.rows import ROWS
from tests.ipvs.rows import ROWS as IPVS_ROWS

ROOT = Path(__file__).resolve().parent.parent
IDS = (ROOT / "tests" / "data" / "spec-ids.txt").read_text().split()
_ROW = re.compile(r"\| ([A-Z]+-\d+) \| ((?:`[^`]+`(?:, )?)*) ?\| (.+) \|")
TABLE = {m[1]: (m[2], m[3]) for m in _ROW.finditer((ROOT / "docs" / "spec-coverage.md").read_text())}


def test_every_rule_is_in_the_table_and_no_other():
    assert sorted(TABLE) == sorted(IDS)


def test_every_rule_has_a_test_or_a_reason():
    bare = [each for each, (_, held) in TABLE.items() if not re.match(r"`tests/|— \w", held)]
    assert bare == []


def test_what_the_table_names_is_there():
    named = {
        path
        for where, held in TABLE.values()
        for path in re.findall(r"`([^`]+)`", where) + re.findall(r"tests/[\w/]+\.py", held)
    }
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_rows_that_the_table_names_hold_the_rule():
    held_by_rows = {each for row in ROWS for each in row.ids.split()}
    claimed = {each for each, (_, held) in TABLE.items() if "tests/cases/rows_" in held}
    assert claimed <= held_by_rows
    assert held_by_rows <= set(IDS)


def test_rows_of_ipvs_hold_what_the_table_says():
    held_by_rows = {each for row in IPVS_ROWS for each in row.ids.split()}
    claimed = {each for each, (_, held) in TABLE.items() if "tests/ipvs/rows.py" in held}
    assert claimed <= held_by_rows <= set(IDS)
