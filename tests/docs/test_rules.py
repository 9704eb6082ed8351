"""docs/kube-proxy.md: every rule is listed once, and its code and test exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pkgutil import resolve_name

import pytest

from .rules import BY_ROWS, IDS, PAGE, ROOT, renewed, rules

TEXT = PAGE.read_text()
RULES = rules(TEXT)


@cache
def functions_of(path: str) -> frozenset[str]:
    """Names of the test functions of a file."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_rule_is_listed_exactly_once():
    assert sorted(re.findall(r"^### (.+)$", TEXT, re.M)) == sorted(IDS)
    assert [rule.id for rule in RULES] == re.findall(r"^### (.+)$", TEXT, re.M), "each has a sentence, code and test"


def test_generated_parts_are_up_to_date():
    assert renewed(TEXT) == TEXT, "run: python -m tests.docs.rules"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_what_a_rule_names_exists(rule):
    assert re.match(r"(All modes|Modes? \w)", rule.modes)
    assert len(rule.sentence.split()) >= 4 and rule.sentence.rstrip().endswith((".", ")"))
    assert rule.code or len(rule.no_code.split()) >= 2, "why no code implements it"
    assert rule.tests or len(rule.no_test.split()) >= 2, "why no test holds it"
    for name in rule.code:
        found = resolve_name(name)
        assert callable(found) or isinstance(found, property), name
    for name in rule.tests:
        path, _, function = name.partition("::")
        assert function in functions_of(path), name


def test_rules_name_the_rows_that_cover_them():
    for test, rows in BY_ROWS.items():
        held = {each for row in rows for each in row.ids.split()}
        claimed = {rule.id for rule in RULES if test in rule.tests}
        assert claimed <= held <= set(IDS), test
