"""docs/chaos-report.md names every field of verdict.json, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from chaos.verdict import Judgement, Verdict
from chaos.verdict.findings import Finding

DOCUMENT = Path(__file__).parents[2] / "docs" / "chaos-report.md"


@pytest.mark.parametrize(
    ("heading", "kind"), [("## verdict.json", Verdict), ("### A judgement", Judgement), ("### A finding", Finding)]
)
def test_every_field_is_documented(heading, kind):
    section = DOCUMENT.read_text().split(heading + "\n")[1].split("\n#")[0]
    documented = re.findall(r"^\| `(\w+)` \| \S", section, re.MULTILINE)
    assert sorted(documented) == sorted(field.encode_name for field in msgspec.structs.fields(kind))


def test_the_picture_is_there_and_small():
    assert 10_000 < (DOCUMENT.parent / "chaos-report.png").stat().st_size < 300_000
