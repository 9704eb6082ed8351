"""A run's result as text, JUnit XML and HTML, from the documented JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from rich.console import Console
from rich.table import Table

from harness.html import words
from harness.html.page import render

STATES = ("passed", "failed", "not applicable")
SHOWN = 20
"""Failures shown on the terminal; the JSON object and the page contain all."""


def headline(run: dict[str, Any]) -> str:
    """One line with counts."""
    counts = ", ".join(f"{run['counts'][state]:,} {state}" for state in STATES)
    return f"{run['proxy']}, mode {run['mode']}, as kube-proxy {run['kube_version']}: {counts}; {run['seconds']:.0f} s"


def print_run(run: dict[str, Any], console: Console) -> None:
    """A table of rules, then each failure with the command that runs its case again."""
    table = Table(box=None)
    table.add_column("rule")
    for state in STATES:
        table.add_column(state, justify="right")
    for row in run["rules"]:
        if row["passed"] or row["failed"]:
            table.add_row(row["rule"], *(f"{row[state]:,}" if row[state] else "" for state in STATES))
    console.print(table)
    for line in _failures(run):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(headline(run), highlight=False, markup=False, soft_wrap=True)


def _failures(run: dict[str, Any]) -> Iterator[str]:
    failed = [case for case in run["cases"] if case["state"] == "failed"]
    for case in failed[:SHOWN]:
        yield f"FAILED {case['id']} ({', '.join(case['rules'])})"
        for each in case["failures"]:
            yield f"  step {each['step']}: {in_words(each)}"
        if case["events"] is not None:
            yield f"  {case['why']}{':' if case['events'] else ''}"
            yield from (f"    {event}" for event in event_lines(case))
        yield f"  again: {case['replay']}"
    if len(failed) > SHOWN:
        yield f"and {len(failed) - SHOWN} more: --json and --html have all"


def event_lines(case: dict[str, Any]) -> list[str]:
    """The events that a random cluster was reduced to, as lines of JSON; none for others."""
    return [json.dumps(event) for event in case["events"] or ()]


def in_words(failure: dict[str, Any]) -> str:
    """Packet, expected and actual outcome."""
    packet = f"{failure['packet']}: " if failure["packet"] else ""
    return f"{packet}expected {failure['expected']}; happened: {failure['happened']}"


def junit(run: dict[str, Any]) -> bytes:
    """A document with one suite and a test case per case; cases that do not apply are skipped."""
    counts = {
        "tests": str(len(run["cases"])),
        "failures": str(run["counts"]["failed"]),
        "skipped": str(run["counts"]["not applicable"]),
        "time": f"{run['seconds']:.3f}",
    }
    suites = Element("testsuites", {"name": "conformance", **counts})
    suite = SubElement(suites, "testsuite", {"name": f"{run['proxy']} in mode {run['mode']}", "errors": "0", **counts})
    for case in run["cases"]:
        attributes = {"classname": " ".join(case["rules"]), "name": case["id"], "time": f"{case['seconds']:.3f}"}
        element = SubElement(suite, "testcase", attributes)
        if case["state"] == "failed":
            text = "\n".join([*map(in_words, case["failures"]), *event_lines(case), f"again: {case['replay']}"])
            message = words.clean(in_words(case["failures"][0]))
            SubElement(element, "failure", message=message).text = words.clean(text, 20_000)
        elif case["state"] == "not applicable":
            SubElement(element, "skipped", message=words.clean(case["why"]))
    indent(suites)
    return bytes(tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def page(run: dict[str, Any], command: str) -> str:
    """The page: one self-contained HTML file."""
    failed = [case for case in run["cases"] if case["state"] == "failed"]
    return render(
        "harness.conformance",
        "conformance.html.j2",
        run=run,
        failed=failed,
        headline=headline(run),
        value=run["passed"] if run["counts"]["passed"] or failed else None,
        in_words=in_words,
        event_lines=event_lines,
        command=command,
    )
