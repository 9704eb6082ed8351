"""The pages about the daemon match the code."""

from __future__ import annotations

import re

from engine.server.config.flags import FLAGS
from tests.server.reference import PAGE, fields, renewed

ROOT = PAGE.parents[1]


def test_the_tables_match_the_code():
    page = PAGE.read_text()
    assert page == renewed(page), "run: python -m tests.server.reference"


def test_every_field_and_flag_is_on_the_page():
    page = PAGE.read_text()
    assert [each.name for each in fields() if f"| `{each.name}` |" not in page] == []
    assert [name for name in FLAGS if f"`--{name}`" not in page] == []


def test_every_flag_sets_existing_fields():
    paths = {each.path for each in fields()}
    assert {target for flag in FLAGS.values() for target in flag.targets} <= paths


def test_files_listed_on_the_page_about_a_node_exist():
    page = (PAGE.parent / "node.md").read_text()
    rules = (ROOT / "tests" / "engine" / "golden" / "ip.nft").read_text()
    named = re.findall(r"^ *\$? ?nft (?:list|get) (map|set|element) ip kube-proxy ([\w-]+)", page, re.M)
    assert len(named) >= 8
    kinds = {"element": "map"}
    assert [(kind, name) for kind, name in named if f"{kinds.get(kind, kind)} {name} {{" not in rules] == []


def test_the_pages_name_existing_folders_and_files():
    for page in ("node.md", "deploy.md", "configuration.md"):
        text = (PAGE.parent / page).read_text()
        paths = re.findall(r"\b(?:deploy|docs|engine)/[\w./-]*\w", text)
        assert [path for path in paths if not (ROOT / path).exists()] == [], page
