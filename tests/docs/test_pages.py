"""README.md and docs/*.md as pages: links resolve, and the glossary names existing code."""

from __future__ import annotations

import re

import pytest

from .commands import PAGES, ROOT

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(text: str) -> set[str]:
    """What a link to a heading of this page looks like."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_links_of_pages_resolve(page):
    lost = []
    for path, anchor in LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            lost.append(f"{path}#{anchor}")
    assert lost == []


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES if page.parent.name == "docs" and f"docs/{page.name}" not in readme] == []


def test_the_glossary_is_sorted_and_names_existing_code():
    terms = re.findall(r"^### (.+)$", GLOSSARY, re.M)
    assert len(terms) > 50 and terms == sorted(terms)
    for entry in GLOSSARY.split("\n### ")[1:]:
        code = re.search(r"Code: ((?:`[^`]+`(?:,\s)?)+)\.", entry)
        assert code, entry.partition("\n")[0]
        assert [path for path in re.findall(r"`([^`]+)`", code[1]) if not (ROOT / path).exists()] == []
