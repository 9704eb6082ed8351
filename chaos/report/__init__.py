"""Reports of a run: HTML with charts, Markdown, JUnit XML, CSV of losses.

    facts and verdict -> series (aggregated) -> timeline, sequence (charts) -> view (plain values) -> templates

Computed only from the files of a run's folder and its verdict: the same folder gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from chaos.report import losses
from chaos.report.junit import junit
from chaos.report.markdown import markdown
from chaos.report.page import html
from chaos.report.view import view
from chaos.verdict import Verdict
from chaos.verdict.facts import FactsError, read_facts

HTML, MARKDOWN, JUNIT, LOST = "report.html", "report.md", "junit.xml", "lost.csv"


def write_reports(folder: Path, verdict: Verdict) -> None:
    """Write them beside the run's files; if the run left no facts, the reports state it."""
    try:
        facts = read_facts(folder)
    except (FactsError, ValueError):
        facts = None  # the verdict's problems state why
    page = view(facts, verdict)
    (folder / HTML).write_text(html(page), encoding="utf-8")
    (folder / MARKDOWN).write_text(markdown(page), encoding="utf-8")
    (folder / JUNIT).write_bytes(junit(page))
    if facts is not None:
        (folder / LOST).write_text(losses.table(facts), encoding="utf-8")
