"""A run as JUnit XML for CI: one test case per objective and per fault.  Pure.

False is a failure, unknown an error: CI systems show both as not passed, while they show skipped as passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from chaos.report.view import ReportView, accounts
from chaos.verdict import Judgement
from chaos.verdict.findings import Finding, trouble_of
from harness.html import words
from harness.wording import plural


def junit(page: ReportView) -> bytes:
    """A document with one suite, which passes exactly when the verdict is true."""
    cases = list(_cases(page))
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
    }
    suites = Element("testsuites", {"name": "chaos", **counts})
    seconds = page.facts.run.seconds if page.facts else 0
    suite = SubElement(suites, "testsuite", {"name": page.title, "time": f"{seconds:.3f}", "skipped": "0", **counts})
    properties = SubElement(suite, "properties")
    verdict = page.verdict
    for name, value in (("verdict", verdict.word), ("seed", verdict.seed), ("mode", verdict.mode),
                        ("sent", verdict.sent), ("lost", verdict.lost)):  # fmt: skip
        SubElement(properties, "property", name=name, value=words.clean("" if value is None else value))
    suite.extend(cases)
    indent(suites)
    return bytes(tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _cases(page: ReportView) -> Iterator[Element]:
    yield _run(page)
    for judgement in page.verdict.judgements:
        yield _objective(judgement)
    for finding in page.verdict.findings:
        yield _fault(finding)
    tried = {finding.number for finding in page.verdict.findings}
    for step in page.steps:
        if step.number not in tried:
            case = _case("faults", f"{step.number}. {step.fault}", 0)
            _not_passed(case, "error", "the run ended before this fault")
            yield case


def _run(page: ReportView) -> Element:
    """Whether the run proves anything at all."""
    case = _case("run", "the run is conclusive", 0)
    problems = page.verdict.problems
    if problems or not page.verdict.judgements:
        reasons = problems or ["no objective was requested"]
        message = reasons[0] if len(reasons) == 1 else plural(len(reasons), "problem")
        _not_passed(case, "error", message, "\n".join(reasons))
    return case


def _objective(judgement: Judgement) -> Element:
    case = _case("objectives", judgement.objective, 0)
    details = f"actual {judgement.measured}, threshold {judgement.wanted}"
    details += f"; {judgement.source}" if judgement.source else ""
    if judgement.value is False:
        _not_passed(case, "failure", details)
    elif judgement.value is None:
        _not_passed(case, "error", f"unknown: {judgement.reason or details}", details)
    else:
        SubElement(case, "system-out").text = words.clean(details)
    return case


def _fault(finding: Finding) -> Element:
    case = _case("faults", f"{finding.number}. {finding.fault}", finding.ended - finding.began)
    if trouble := trouble_of(finding):
        _not_passed(case, "error", trouble, "\n".join(finding.errors[:20]))
    SubElement(case, "system-out").text = words.clean(
        f"hit {words.names(finding.nodes or finding.pods)}; {accounts(finding)};"
        f" readiness lost after {words.seconds(finding.readiness_lost_seconds)},"
        f" slices changed after {words.seconds(finding.slices_changed_seconds)},"
        f" slowest kernel {words.at_least(finding.slowest_node_seconds, bool(finding.never_followed))},"
        f" last failed request after {words.seconds(finding.last_failure_seconds)};"
        f" {plural(finding.lost, 'request')} lost: {words.counts(finding.lost_by_cause)}",
        2000,
    )
    return case


def _case(group: str, name: str, seconds: float) -> Element:
    return Element("testcase", classname=f"chaos.{group}", name=words.clean(name), time=f"{max(0.0, seconds):.3f}")


def _not_passed(case: Element, kind: str, message: str, text: str = "") -> None:
    SubElement(case, kind, message=words.clean(message), type=kind).text = words.clean(text or message, 4000)
