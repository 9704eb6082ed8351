"""The rules of docs/kube-proxy.md, and the generated parts of the page: `python -m tests.docs.rules`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.conformance.corpus.rows import ROWS
from harness.conformance.corpus.rows_ipvs import ROWS as IPVS_ROWS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "kube-proxy.md"
IDS = (ROOT / "tests" / "data" / "spec-ids.txt").read_text().split()
CONTENTS = "<!-- contents: made by python -m tests.docs.rules -->"
BY_ROWS = {
    f"tests/{folder}/test_rows.py::test_tracer_and_oracle_agree": rows
    for folder, rows in (("cases", ROWS), ("ipvs", IPVS_ROWS))
}
"""Tests that check rules by rows, each of which names its rules."""
LINE = 118
_RULE = re.compile(
    r"^### (.+)\n\n\*(.+?)\.\* ((?:.+\n)+?)\n(?:Here: (?:.+\n)+?\n)?Code: ((?:.+\n)+?)Test: ((?:.+\n)+)", re.M
)


class Rule(NamedTuple):
    """One rule of the page: its code and tests, or the reason for having none."""

    id: str
    modes: str
    sentence: str
    code: tuple[str, ...]
    no_code: str
    tests: tuple[str, ...]
    no_test: str


def rules(page: str) -> list[Rule]:
    """Every rule, in the order of the page."""
    found = []
    for number, modes, sentence, code, test in _RULE.findall(page):
        names = [re.findall(r"`([^`]+)`", text) if not text.startswith("none; ") else [] for text in (code, test)]
        reasons = [" ".join(text.removeprefix("none; ").split()) for text in (code, test)]
        found.append(Rule(number, modes, sentence, tuple(names[0]), reasons[0], tuple(names[1]), reasons[1]))
    return found


def contents(page: str) -> str:
    """A table of the areas, with a link for each rule."""
    rows = ["| area | rules |", "| --- | --- |"]
    for area in page.split("\n## ")[1:]:
        title = area.partition("\n")[0]
        ids = re.findall(r"^### (.+)$", area, re.M)
        if ids:
            prefix = ids[0].partition("-")[0]
            links = " ".join(f"[{each.partition('-')[2]}](#{each.lower()})" for each in ids)
            rows.append(f"| [{title}](#{_anchor(title)}) | {prefix} {links} |")
    return "\n".join(rows)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def renewed(page: str) -> str:
    """The page with its table of contents and each rule's row names generated."""
    before, mark, rest = page.partition(CONTENTS)
    after = rest.lstrip("\n").partition("\n\n")[2]
    head, *blocks = re.split(r"(?=^### )", after, flags=re.M)
    return f"{before}{mark}\n\n{contents(page)}\n\n{head}{''.join(map(_with_rows, blocks))}"


def _with_rows(block: str) -> str:
    """One rule's block, its rows behind the tests that hold rules by rows."""
    number = block[4 : block.index("\n")]
    start, mark, tests = block.rpartition("\nTest: ")
    tests, gap, rest = tests.partition("\n\n")
    text = " ".join(tests.split())
    for test, rows in BY_ROWS.items():
        names = "; ".join(dict.fromkeys(row.name for row in rows if number in row.ids.split()))
        text = re.sub(rf"`{re.escape(test)}`( \(.*?\)(?=[,.]))?", lambda _, t=test, n=names: f"`{t}` ({n})", text)
    return f"{start}\n{_wrapped(f'Test: {text}')}{gap or chr(10)}{rest}"


def _wrapped(text: str) -> str:
    return "\n".join(_lines(text.split()))


def _lines(words: list[str]) -> Iterator[str]:
    line = words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) > LINE:
            yield line
            line = word
        else:
            line += f" {word}"
    yield line


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
