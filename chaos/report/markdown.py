"""A short Markdown summary of a run for a pull request: verdict, objectives, faults.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from chaos.report.view import ReportView, again
from chaos.verdict import Judgement
from chaos.verdict.findings import Finding, trouble_of, unchanged
from harness.html import words
from harness.html.page import VALUES
from harness.wording import plural

MOST_FAULTS = 60
MARKS = {True: "✅", False: "❌", None: "❔"}

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def markdown(page: ReportView) -> str:
    """GitHub-flavoured; text from the run is escaped and cannot break out of its cell."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: ReportView) -> Iterator[str]:
    verdict = page.verdict
    yield f"## {MARKS[verdict.value]} Chaos verdict: {page.word} · {_cell(page.title)}"
    yield ""
    if page.facts is None:
        yield page.meaning
    else:
        lost = words.percent(verdict.lost, verdict.sent)
        yield f"{_cell(page.line)}. {verdict.lost:,} of {plural(verdict.sent, 'request')} lost ({lost})."
    yield ""
    if verdict.problems:
        yield from (f"- {_cell(problem)}" for problem in verdict.problems)
        yield ""
    if verdict.skipped:
        yield from (f"- skipped: {_cell(why)}" for why in verdict.skipped)
        yield ""
    if verdict.judgements:
        yield from _table(("Objective", "Threshold", "Actual", "Result", "Source"), map(_judged, verdict.judgements))
    if verdict.findings:
        head = ("#", "Fault", "Hit", "Readiness lost", "Slices changed", "Slowest kernel", "Last failed", "Lost")
        yield from _table(head, map(_fault, verdict.findings[:MOST_FAULTS]))
        if len(verdict.findings) > MOST_FAULTS:
            yield f"{len(verdict.findings) - MOST_FAULTS} more faults are in the HTML report."
            yield ""
        yield from _untouched(verdict.findings)
        yield "Times are since the fault began; slowest kernel: from slice change to the last node's convergence."
        yield ""
    if page.facts is not None:
        yield f"To repeat the run: {_code(again(page.facts)[0])}"


def _untouched(findings: list[Finding]) -> Iterator[str]:
    """The results of faults without visible effects, which a row of dashes would not show."""
    found = [
        f"- {finding.number}. {_cell(finding.fault)}: {_cell(unchanged(finding))}"
        for finding in findings
        if unchanged(finding)
    ]
    if found:
        yield from found
        yield ""


def _table(head: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('---' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _judged(judgement: Judgement) -> tuple[str, ...]:
    value = f"{MARKS[judgement.value]} {VALUES[judgement.value][0]}"
    reason = f" ({judgement.reason})" if judgement.reason else ""
    return judgement.objective, judgement.wanted, judgement.measured + reason, value, judgement.source


def _fault(finding: Finding) -> tuple[str, ...]:
    trouble = trouble_of(finding)
    state = f" ({trouble})" if trouble else ""
    slowest = words.at_least(finding.slowest_node_seconds, bool(finding.never_followed))
    lost = f"{finding.lost:,}" + (f" ({words.counts(finding.lost_by_cause)})" if finding.lost else "")
    return (
        str(finding.number), finding.fault + state, words.names(finding.nodes or finding.pods),
        words.seconds(finding.readiness_lost_seconds), words.seconds(finding.slices_changed_seconds), slowest,
        words.seconds(finding.last_failure_seconds), lost,
    )  # fmt: skip


def _code(text: str) -> str:
    """A code span, with a fence longer than any run of backticks in it."""
    line = " ".join(words.clean(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def _cell(text: str) -> str:
    """One line, with Markdown and HTML escaped."""
    line = " ".join(words.clean(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)
