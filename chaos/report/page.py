"""The page: one self-contained HTML file, from the template beside this module."""

from __future__ import annotations

from chaos.report.view import GLOSSARY, ReportView
from harness.html.page import render


def html(page: ReportView) -> str:
    """The whole document."""
    return render("chaos.report", "report.html.j2", page=page, glossary=GLOSSARY)
