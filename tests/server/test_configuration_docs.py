"""The tables of docs/configuration.md are what the code says."""

from __future__ import annotations

from engine.server.flags import FLAGS
from tests.server.reference import PAGE, fields, renewed


def test_the_tables_are_what_the_code_says():
    page = PAGE.read_text()
    assert page == renewed(page), "run: python -m tests.server.reference"


def test_every_field_and_flag_is_on_the_page():
    page = PAGE.read_text()
    assert [each.name for each in fields() if f"| `{each.name}` |" not in page] == []
    assert [name for name in FLAGS if f"`--{name}`" not in page] == []


def test_every_flag_sets_fields_that_there_are():
    paths = {each.path for each in fields()}
    assert {target for flag in FLAGS.values() for target in flag.targets} <= paths
