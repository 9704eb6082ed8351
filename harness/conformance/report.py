"""A run's result as text, JUnit XML and HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from rich.console import Console
from rich.table import Table

from harness.conformance.result import (
    FAILED,
    NOT_APPLICABLE,
    STATES,
    ConformanceResult,
    Counts,
    RuleCounts,
    WrittenCase,
)
from harness.html import words
from harness.html.page import render

SHOWN = 20
"""Failures shown on the terminal; the JSON object and the page contain all."""


def headline(run: ConformanceResult) -> str:
    """One line with counts."""
    counts = ", ".join(f"{count:,} {state}" for state, count in zip(STATES, _by_state(run.counts), strict=True))
    return f"{run.proxy}, mode {run.mode}, as kube-proxy {run.kube_version}: {counts}; {run.seconds:.0f} s"


def _by_state(counts: Counts | RuleCounts) -> tuple[int, int, int]:
    return counts.passed, counts.failed, counts.not_applicable


def print_run(run: ConformanceResult, console: Console) -> None:
    """A table of rules, then each failure with the command that runs its case again."""
    table = Table(box=None)
    table.add_column("rule")
    for state in STATES:
        table.add_column(state, justify="right")
    for row in run.rules:
        if row.passed or row.failed:
            table.add_row(row.rule, *(f"{count:,}" if count else "" for count in _by_state(row)))
    console.print(table)
    for line in _failures(run):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(headline(run), highlight=False, markup=False, soft_wrap=True)


def _failures(run: ConformanceResult) -> Iterator[str]:
    failed = [case for case in run.cases if case.state == FAILED]
    for case in failed[:SHOWN]:
        yield f"FAILED {case.id} ({', '.join(case.rules)})"
        for each in case.failures:
            yield f"  step {each.step}: {each}"
        if case.events is not None:
            yield f"  {case.why}{':' if case.events else ''}"
            yield from (f"    {event}" for event in event_lines(case))
        yield f"  again: {case.replay}"
    if len(failed) > SHOWN:
        yield f"and {len(failed) - SHOWN} more: --json and --html have all"


def event_lines(case: WrittenCase) -> list[str]:
    """The events that a random cluster was reduced to, as lines of JSON; none for others."""
    return [json.dumps(event) for event in case.events or ()]


def junit(run: ConformanceResult) -> bytes:
    """A document with one suite and a test case per case; cases that do not apply are skipped."""
    counts = {
        "tests": str(len(run.cases)),
        "failures": str(run.counts.failed),
        "skipped": str(run.counts.not_applicable),
        "time": f"{run.seconds:.3f}",
    }
    suites = Element("testsuites", {"name": "conformance", **counts})
    suite = SubElement(suites, "testsuite", {"name": f"{run.proxy} in mode {run.mode}", "errors": "0", **counts})
    for case in run.cases:
        attributes = {"classname": " ".join(case.rules), "name": case.id, "time": f"{case.seconds:.3f}"}
        element = SubElement(suite, "testcase", attributes)
        if case.state == FAILED:
            text = "\n".join([*map(str, case.failures), *event_lines(case), f"again: {case.replay}"])
            message = words.clean(str(case.failures[0]))
            SubElement(element, "failure", message=message).text = words.clean(text, 20_000)
        elif case.state == NOT_APPLICABLE:
            SubElement(element, "skipped", message=words.clean(case.why))
    indent(suites)
    return bytes(tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def page(run: ConformanceResult, command: str) -> str:
    """The page: one self-contained HTML file."""
    failed = [case for case in run.cases if case.state == FAILED]
    return render(
        "harness.conformance",
        "conformance.html.j2",
        run=run,
        failed=failed,
        headline=headline(run),
        value=run.passed if run.counts.passed or failed else None,
        event_lines=event_lines,
        command=command,
    )
