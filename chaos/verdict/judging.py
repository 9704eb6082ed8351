"""Each objective judged; the verdict is false if one is, else unknown if one is, else true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaos.verdict.facts import Facts, FactsError, read_facts
from chaos.verdict.findings import Finding, findings

PERCENTILES = (50, 90, 99, 99.9)
WORDS = {True: "true", False: "false", None: "unknown"}


class Judgement(msgspec.Struct, frozen=True):
    """One objective: `value` None is unknown, and `reason` then says why."""

    objective: str
    value: bool | None
    wanted: str
    measured: str
    reason: str = ""


class Verdict(msgspec.Struct):
    """What a run says. `problems` are what keeps it from being true however well everything went.

    `latency_us` is of all answered requests, from their intended time; `engine_cpu_share` of the machine's CPU time
    over the run, all nodes' engines together. docs/chaos-report.md describes it as JSON, field by field.
    """

    value: bool | None
    judgements: list[Judgement] = []
    problems: list[str] = []
    findings: list[Finding] = []
    sent: int = 0
    lost: int = 0
    lost_outside_faults: int = 0
    not_sent: int = 0
    latency_us: dict[str, int | None] = {}
    engine_cpu_share: float | None = None
    experiment: str = ""
    seed: int | None = None
    mode: str = ""
    version: int = 1

    @property
    def word(self) -> str:
        """true, false or unknown."""
        return WORDS[self.value]

    def summary(self) -> str:
        """A few lines for a terminal."""
        lines = [f"verdict: {self.word.upper()}: {self.lost:,} of {self.sent:,} requests lost"]
        for judgement in self.judgements:
            mark = {True: "ok  ", False: "FAIL", None: "?   "}[judgement.value]
            reason = f" ({judgement.reason})" if judgement.reason else ""
            lines.append(f"  {mark} {judgement.objective}: {judgement.measured}, wanted {judgement.wanted}{reason}")
        return "\n".join([*lines, *(f"  ?    {problem}" for problem in self.problems)])


def judge(folder: Path) -> Verdict:
    """The verdict of a run's folder; unknown where the run left nothing to judge."""
    try:
        facts = read_facts(folder)
    except (FactsError, ValueError) as error:
        return Verdict(None, [], [str(error)], [])
    return judge_facts(facts)


def judge_facts(facts: Facts) -> Verdict:
    """As `judge`, from facts."""
    found, nobody_s = findings(facts)
    judgements = list(_judgements(facts, found))
    problems = list(_problems(facts, found))
    if not judgements:
        problems.append("no objective was asked for")
    values = [judgement.value for judgement in judgements]
    value = False if False in values else None if problems or None in values else True
    raw, load = facts.raw, facts.load
    latency = {f"p{percentile:g}".replace(".", ""): load.latency_us(percentile) for percentile in PERCENTILES}
    cpu_seconds = raw["seconds"] * (raw["environment"]["cpus"] or 1) if raw["engine_cpu_seconds"] else 0
    return Verdict(
        value, judgements, problems, found, load.sent, load.failed, len(nobody_s), load.not_sent, latency,
        sum(raw["engine_cpu_seconds"].values()) / cpu_seconds if cpu_seconds else None,
        raw["experiment"]["title"], raw["seed"], raw["mode"],
    )  # fmt: skip


def _problems(facts: Facts, found: list[Finding]) -> Iterator[str]:
    """Why the run proves nothing, as far as it does not."""
    if not facts.raw["finished"]:
        yield "the experiment did not run to its end"
    planned = len(facts.raw["plan"]["steps"]) if facts.raw["plan"] else 0
    if len(found) < planned:
        yield f"only {len(found)} of {planned} faults were tried"
    for finding in found:
        if not finding.injected:
            why = "; ".join(finding.errors) or "nothing showed that it was in force"
            yield f"{finding.number}. {finding.fault} was not injected: {why}"
        elif not finding.healed:
            yield f"{finding.number}. {finding.fault} was not healed: {'; '.join(finding.errors)}"
        elif finding.errors:
            yield f"{finding.number}. {finding.fault}: {'; '.join(finding.errors)}"
    yield from facts.raw.get("troubles", ())
    yield from facts.load.incomplete
    if facts.load.sent == 0:
        yield "no request was sent"
    if facts.load.not_sent:
        yield f"{facts.load.not_sent:,} requests were due but not sent: the load generator could not keep up"


def _judgements(facts: Facts, found: list[Finding]) -> Iterator[Judgement]:
    objectives, load = facts.objectives, facts.load
    if objectives.error_budget_percent is not None:
        share = 100 * load.failed / load.sent if load.sent else None
        yield _at_most(
            "error budget", share, objectives.error_budget_percent, "{:.2f} % of requests", "nothing was sent"
        )
    if objectives.max_lost_requests is not None:
        yield _at_most("requests lost", load.failed, objectives.max_lost_requests, "{:,.0f}", "")
    if objectives.latency_p99_ms is not None:
        p99 = load.latency_us(99)
        p99 = None if p99 is None else p99 / 1000
        yield _at_most("latency p99", p99, objectives.latency_p99_ms, "{:.1f} ms", "nothing was answered")
    if objectives.node_convergence_seconds is not None:
        yield _convergence(facts, found)
    if objectives.failures_after_convergence is not None:
        yield _late(facts, found, objectives.failures_after_convergence)
    if facts.raw.get("kafka"):
        yield _log_on_kafka(facts.raw["kafka"])
    for name, wanted in objectives.faults.items():
        yield from _of_fault(name, wanted, [f for f in found if f.fault == name])


def _at_most(name: str, measured: float | None, limit: float, form: str, why_unknown: str) -> Judgement:
    wanted = f"at most {form.format(limit)}"
    if measured is None:
        return Judgement(name, None, wanted, "nothing", why_unknown)
    return Judgement(name, measured <= limit, wanted, form.format(measured))


def _convergence(facts: Facts, found: list[Finding]) -> Judgement:
    limit = facts.objectives.node_convergence_seconds
    wanted = f"at most {limit:.2f} s on every node"
    times = [f.slowest_node_seconds for f in found if f.slowest_node_seconds is not None]
    if not times:
        why = facts.raw.get("unseen") or "no change of the slices to follow"
        return Judgement("node convergence", None, wanted, "nothing", why)
    never = sorted({node for finding in found for node in finding.never_followed})
    measured = f"{max(times):.2f} s at most" + (f", not every change by {', '.join(never)}" if never else "")
    return Judgement("node convergence", max(times) <= limit, wanted, measured)


def _late(facts: Facts, found: list[Finding], limit: int) -> Judgement:
    wanted = f"at most {limit}"
    counted = [f.lost_after_convergence for f in found if f.lost_after_convergence is not None]
    if not counted:
        why = facts.raw.get("unseen") or "no fault was followed by every kernel"
        return Judgement("lost after convergence", None, wanted, "nothing", why)
    return Judgement("lost after convergence", sum(counted) <= limit, wanted, str(sum(counted)))


def _log_on_kafka(kafka: dict) -> Judgement:
    """A history that lost an event, or has one twice, is false whatever else went well."""
    measured = f"{kafka['events']:,} events" if kafka["complete"] else "not the same"
    wanted = "the topic says what the file says"
    return Judgement("event log on Kafka", kafka["complete"], wanted, measured, kafka.get("error", ""))


def _of_fault(name: str, wanted, found: list[Finding]) -> Iterator[Judgement]:
    if not found:
        yield Judgement(name, None, "to be injected", "nothing", "the run had no such fault")
        return
    if wanted.max_lost_requests is not None:
        lost = sum(f.lost for f in found)
        yield _at_most(f"{name}: requests lost", lost, wanted.max_lost_requests, "{:,.0f}", "")
    if wanted.readiness_lost_seconds is not None:
        least, most = wanted.readiness_lost_seconds
        times = [f.readiness_lost_seconds for f in found]
        within = None if None in times else all(least <= time <= most for time in times)
        measured = ", ".join("never" if time is None else f"{time:.2f} s" for time in times)
        reason = "a pod never lost its readiness" if within is None else ""
        yield Judgement(f"{name}: readiness lost after", within, f"{least:g} to {most:g} s", measured, reason)
