"""A run for people and machines to read: HTML with pictures, Markdown, JUnit.

    facts and verdict -> series (aggregated) -> timeline, sequence (pictures) -> view (plain values) -> templates

Made from the files of a run's folder and its verdict alone: the same folder gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from chaos.report.junit import junit
from chaos.report.markdown import markdown
from chaos.report.page import html
from chaos.report.view import view
from chaos.verdict import Verdict
from chaos.verdict.facts import FactsError, read_facts

HTML, MARKDOWN, JUNIT = "report.html", "report.md", "junit.xml"


def write_reports(folder: Path, verdict: Verdict) -> None:
    """Write the three beside the run's files; of a run that left no facts they say so."""
    try:
        facts = read_facts(folder)
    except (FactsError, ValueError):
        facts = None  # the verdict's problems say why
    page = view(facts, verdict)
    (folder / HTML).write_text(html(page), encoding="utf-8")
    (folder / MARKDOWN).write_text(markdown(page), encoding="utf-8")
    (folder / JUNIT).write_bytes(junit(page))
